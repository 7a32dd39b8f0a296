from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.errors import InvalidRecipe, NoUsablePatches, UnknownBand
from cloud_assets.patches.statistics import PERCENTILES, band_positions, band_statistics, fitted_preprocessing
from cloud_assets.patches.store import PatchStore
from cloud_assets_tests.patch_arrays import store_arrays
from cloud_assets_tests.patches.conftest import BANDS


@pytest.fixture
def store(tmp_path: Path) -> PatchStore:
    rng = np.random.default_rng(0)
    images = (5_000 + rng.gamma(3, 5_000, (6, 4, 16, 16))).clip(1, 65_535).astype(np.uint16)
    images[0, :, :8] = 0
    images[5] = 0
    return store_arrays(tmp_path / "s", images[:5], bands=BANDS, instrument="landsat8_l1")


def test_statistics_are_those_of_the_valid_pixels(store: PatchStore) -> None:
    statistics = band_statistics(store)
    dn = store.array()
    valid = (dn != 0).any(axis=1)
    assert statistics.pixels == valid.sum() == 5 * 256 - 128
    for band in range(4):
        reflectance = dn[:, band][valid] * 2e-5 - 0.1
        assert statistics.mean[band] == pytest.approx(reflectance.mean(), abs=1e-6)
        assert statistics.std[band] == pytest.approx(reflectance.std(), abs=1e-6)
        for share in PERCENTILES:
            expected = np.quantile(reflectance, share / 100, method="inverted_cdf")
            assert statistics.percentiles[share][band] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"clip": (0.4, 0.1)}, r"clip must rise .* \(0.4, 0.1\)"),
        ({"bands": ("red",), "texture": True}, "texture is measured between bands"),
    ],
)
def test_values_that_do_not_go_together_are_named(store: PatchStore, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRecipe, match=said) as refusal:
        fitted_preprocessing(store, **asked)
    assert str(store.directory) in str(refusal.value)


def test_clipping_comes_first(store: PatchStore) -> None:
    dn = store.array()
    clipped = np.clip(dn[:, 1][(dn != 0).any(axis=1)] * 2e-5 - 0.1, 0.0, 0.2)
    statistics = band_statistics(store, clip=(0.0, 0.2))
    assert statistics.mean[1] == pytest.approx(clipped.mean(), abs=1e-6)
    assert statistics.std[1] == pytest.approx(clipped.std(), abs=1e-6)


def test_only_the_given_rows_count(store: PatchStore) -> None:
    rows = np.array([1, 3])
    assert band_statistics(store, rows).mean[0] == pytest.approx((store.array()[rows, 0] * 2e-5 - 0.1).mean(), abs=1e-6)
    with pytest.raises(NoUsablePatches, match="no valid pixel"):
        band_statistics(store, np.array([], np.int64))


def test_radar_is_counted_in_fine_bins(tmp_path: Path) -> None:
    decibels = np.random.default_rng(0).normal(-14, 4, (4, 2, 16, 16)).astype(np.float32)
    decibels[0, :, 0] = np.nan
    store = store_arrays(tmp_path / "s", decibels, bands=("VV", "VH"), instrument="sentinel1_grd")
    statistics = band_statistics(store)
    assert statistics.unit == "dB"
    assert statistics.mean[1] == pytest.approx(np.nanmean(decibels[:, 1]), abs=0.01)
    assert statistics.std[1] == pytest.approx(np.nanstd(decibels[:, 1]), abs=0.01)


def test_fitted_standardisation_gives_mean_0_and_deviation_1(store: PatchStore) -> None:
    preprocessing = fitted_preprocessing(store, normalisation="standardise", clip=(0.0, 1.0))
    scaled, valid = preprocessing(store.array())
    for band in range(4):
        assert scaled[:, band][valid].mean() == pytest.approx(0, abs=1e-4)
        assert scaled[:, band][valid].std() == pytest.approx(1, abs=1e-4)


def test_bands_are_chosen_by_any_name(store: PatchStore) -> None:
    whole = fitted_preprocessing(store, normalisation="standardise")
    part = fitted_preprocessing(store, normalisation="standardise", bands=("B5", "red"))
    assert part.bands == ("nir", "red")
    assert part.mean == (whole.mean[3], whole.mean[0])
    assert band_positions(store.roles["images"], None) == [0, 1, 2, 3]
    with pytest.raises(UnknownBand, match="this patch store has no band 'cirrus'"):
        fitted_preprocessing(store, bands=("cirrus",))


def test_the_nearest_other_band_stands_in_for_an_optional_one(store: PatchStore) -> None:
    preprocessing = fitted_preprocessing(store, bands=("nir", "red", "green", "blue"), optional=("blue", "nir"))
    assert preprocessing.stand_ins == {"blue": "green", "nir": "red"}
    assert preprocessing.without(["blue"]).absent == ((3, 2),)
    assert fitted_preprocessing(store).stand_ins == {}
