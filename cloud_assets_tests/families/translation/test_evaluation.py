from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from cloud_assets.errors import NoUsablePatches
from cloud_assets.families.translation.recipe import TranslationEvaluation
from cloud_assets.networks.specifications import ResNetGenerator
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.patches.splits import PlaceSplit, Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.reports.evaluation import Evaluation
from cloud_assets.tasks.sar_to_optical import TASK
from cloud_assets_tests.any_family import evaluate_by
from cloud_assets_tests.families.conftest import make_card
from cloud_assets_tests.radar_pairs import OPTICAL, backscatter, reflectance_of, write_pairs

Rule = Callable[[np.ndarray], np.ndarray]


class RulePredictor:
    """A model that is a plain function of the backscatter: (N, 2, H, W) -> reflectance (N, 4, H, W)."""

    def __init__(self, rule: Rule, **details: Any) -> None:
        target = Preprocessing(instrument="sentinel2_l1c", bands=OPTICAL, clip=(0, 1), scaled_to=(-1, 1))
        self.rule = rule
        self.card = make_card(
            (),
            family="translation",
            network=ResNetGenerator(),
            in_channels=2,
            out_channels=4,
            threshold=None,
            preprocessing=Preprocessing(
                instrument="sentinel1_grd", bands=("VV", "VH"), clip=(-25, 0), scaled_to=(-1, 1)
            ),
            details={
                "target": target.model_dump(mode="json"), "input_role": "sar", "output_role": "optical", **details
            },
        )  # fmt: skip

    def predict(self, dn: np.ndarray) -> dict[str, np.ndarray]:
        seen = np.isfinite(dn).all(axis=1, keepdims=True)
        return {"reflectance": np.where(seen, self.rule(dn), np.nan).astype(np.float32)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PatchStore, Splits]:
    """Pairs of 176 pixels, enough for five scales; a corner of each has no radar."""
    radar = backscatter(14, 176)[[*range(10), 12, 13]]
    reflectance = reflectance_of(radar)
    radar[:, :, :6, :9] = np.nan
    splits = ("train",) * 8 + ("validation",) + ("test",) * 3
    store = write_pairs(tmp_path_factory.mktemp("pairs") / "store", radar, reflectance, splits)
    return store, PlaceSplit().split(store)


def evaluate(pairs: tuple[PatchStore, Splits], rule: Rule, **details: Any) -> Evaluation:
    recipe = TranslationEvaluation(baseline_pixels=20_000, baseline_window=3, examples=2)
    return evaluate_by(recipe, RulePredictor(rule, **details), *pairs)


@pytest.fixture(scope="module")
def perfect(pairs: tuple[PatchStore, Splits]) -> Evaluation:
    return evaluate(pairs, reflectance_of, ended="mode collapse: for 5 epochs")


def test_known_answers(pairs: tuple[PatchStore, Splits]) -> None:
    metrics = evaluate(pairs, lambda dn: reflectance_of(dn) + 0.01).metrics
    assert metrics["psnr"] == pytest.approx(40, abs=0.05)
    for band in OPTICAL:
        assert metrics[f"rmse_{band}"] == pytest.approx(0.01, abs=1e-4)
        assert metrics[f"mae_{band}"] == pytest.approx(0.01, abs=1e-4)
    assert metrics["ssim"] > 0.99
    assert metrics["ms_ssim"] > 0.99
    assert metrics["wasserstein"] == pytest.approx(0.01, abs=2e-3)
    assert metrics["ndvi_correlation"] > 0.95
    assert metrics["psnr_gain"] == pytest.approx(metrics["psnr"] - metrics["baseline_psnr"])


def test_metrics_are_those_of_the_formulas(pairs: tuple[PatchStore, Splits]) -> None:
    store, splits = pairs
    metrics = evaluate(pairs, lambda dn: np.full_like(np.repeat(dn, 2, axis=1), 0.1)).metrics
    test = splits.indices("test")
    seen = np.isfinite(store.array("sar")[test]).all(axis=1)
    truth = np.moveaxis(store.array("optical")[test], 1, -1)[seen].astype(np.float64) / 1e4  # (M, 4)
    train = splits.indices("train")
    seen_train = np.isfinite(store.array("sar")[train]).all(axis=1)
    mean = np.moveaxis(store.array("optical")[train], 1, -1)[seen_train].mean(axis=0) / 1e4
    assert metrics["psnr"] == pytest.approx(-10 * np.log10(np.square(truth - 0.1).mean()), abs=1e-3)
    assert metrics["baseline_psnr"] == pytest.approx(-10 * np.log10(np.square(truth - mean).mean()), abs=1e-3)
    assert metrics["baseline_psnr_gain"] == 0
    residual = np.square(truth - 0.1).sum(axis=0) / np.square(truth - truth.mean(axis=0)).sum(axis=0)
    for band, share in zip(OPTICAL, residual, strict=True):
        assert metrics[f"r2_{band}"] == pytest.approx(1 - share, rel=1e-4)
    grey = np.full(4, 0.5)
    cosine = truth @ grey / np.linalg.norm(truth, axis=1)
    assert metrics["sam"] == pytest.approx(np.degrees(np.arccos(cosine)).mean(), rel=1e-3)


def test_recoloured_is_what_a_straight_line_per_band_leaves(pairs: tuple[PatchStore, Splits]) -> None:
    store, splits = pairs
    noise = np.random.default_rng(0)

    def dull(dn: np.ndarray) -> np.ndarray:
        made = 0.4 * reflectance_of(dn) + 0.2
        return made + noise.normal(0, 0.004, made.shape)

    evaluation = evaluate(pairs, dull)
    noise = np.random.default_rng(0)
    test = splits.indices("test")
    radar, truth = store.array("sar")[test], store.array("optical")[test] / 1e4
    made = dull(radar).astype(np.float32)
    seen = np.isfinite(radar).all(axis=1)
    squared = []
    for band in range(4):
        predicted, wanted = made[:, band][seen][:, None], truth[:, band][seen]
        squared.append(np.square(LinearRegression().fit(predicted, wanted).predict(predicted) - wanted).mean())
    metrics = evaluation.metrics
    assert metrics["recoloured_psnr"] == pytest.approx(-10 * np.log10(np.mean(squared)), abs=0.01)
    assert metrics["recoloured_psnr"] > metrics["psnr"] + 3
    assert metrics["recoloured_psnr_gain"] == pytest.approx(metrics["recoloured_psnr"] - metrics["baseline_psnr"])
    assert any("wrong levels and contrasts of colours" in note for note in evaluation.notes)


def test_linear_regression_finds_a_linear_relation(perfect: Evaluation) -> None:
    metrics = perfect.metrics
    assert metrics["linear_psnr_gain"] > 20
    assert metrics["psnr_gain"] > metrics["linear_psnr_gain"]


def test_a_model_without_gain_does_not_pass_the_gate(pairs: tuple[PatchStore, Splits], perfect: Evaluation) -> None:
    worse = evaluate(pairs, lambda dn: 1 - reflectance_of(dn))
    assert not TASK.gate.decide(worse.metrics, None).accepted
    assert any("no better than one constant colour" in note for note in worse.notes)
    assert any("upside down (correlation -1.00)" in note for note in worse.notes)
    assert not any("upside down" in note for note in perfect.notes)
    assert TASK.gate.decide(perfect.metrics, None).accepted


def test_report(perfect: Evaluation, tmp_path: Path) -> None:
    perfect.save(tmp_path / "evaluation")
    again = Evaluation.open(tmp_path / "evaluation")
    assert {"examples", "histograms", "ndvi"} <= set(again.figures)
    assert "data_range 1" in " ".join(again.notes)
    assert "mode collapse" in " ".join(again.notes)
    assert again.tables["baselines"]["baseline"].tolist() == ["mean colour", "linear regression"]
    assert set(again.captions) >= {*again.figures, *again.tables}


def test_an_empty_test_split_is_refused(pairs: tuple[PatchStore, Splits]) -> None:
    store, splits = pairs
    without = Splits(splits.table[splits.table["split"] != "test"].reset_index(drop=True), splits.details)
    with pytest.raises(NoUsablePatches, match="test split is empty"):
        evaluate((store, without), reflectance_of)
