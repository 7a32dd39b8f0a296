import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_assets.errors import InvalidRecipe, TrainingFailed, UnknownBand
from cloud_assets.patches import simulated
from cloud_assets.patches.simulated import simulated_store
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation.patch import SimulationRecipe, patch_generator, simulate_patch

BANDS = ("red", "green", "blue", "nir")


def store(cache: Path, **fields: Any) -> PatchStore:
    wanted = {"instrument": "landsat8_l1", "bands": BANDS, "size": 32, "count": 5, "workers": 1, "progress": False}
    return simulated_store(cache, **{**wanted, **fields})


def test_patches_are_those_of_the_simulation_in_digital_numbers(tmp_path: Path) -> None:
    patches = store(tmp_path, seed=3)
    assert patches.is_synthetic
    assert patches.array().dtype == np.uint16
    for number in range(5):
        expected = simulate_patch(patch_generator(3, number), 32, BANDS, SimulationRecipe())
        reflectance = patches.array()[number] * 2e-5 - 0.1
        seen = np.broadcast_to(expected.valid & expected.present[:, None, None], reflectance.shape)
        np.testing.assert_allclose(reflectance[seen], np.clip(expected.reflectance[seen], -0.1, 1.21068), atol=2e-5)
        np.testing.assert_array_equal(patches.masks[number], expected.mask)
        assert expected.biome in patches.index["attributes"][number]


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    one, three = store(tmp_path / "a"), store(tmp_path / "b", workers=3)
    assert one.data_version == three.data_version
    assert one.directory.name == three.directory.name


def test_what_was_simulated_is_not_simulated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr(simulated, "_simulate", refuse)
    assert store(tmp_path, workers=7, progress=False).data_version == first.data_version
    for change in ({"seed": 1}, {"count": 6}, {"size": 48}, {"bands": BANDS[:3]}, {"instrument": "sentinel2_l1c"}):
        with pytest.raises(AssertionError, match="simulated again"):
            store(tmp_path, **change)
    with pytest.raises(AssertionError, match="simulated again"):
        store(tmp_path, recipe=SimulationRecipe(haze=(0.1, 0.2)))


def test_a_damaged_cache_entry_is_made_anew(tmp_path: Path) -> None:
    first = store(tmp_path)
    (first.directory / "masks.npy").write_bytes(b"")
    assert store(tmp_path).data_version == first.data_version


def killed(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "_simulated", killed)
    with pytest.raises(TrainingFailed, match="SIGKILL"):
        store(tmp_path, workers=2)
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_simulated_is_refused_before_any_process_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="sentinel1_grd measures dB"):
        store(tmp_path, instrument="sentinel1_grd", bands=("VV",))
    with pytest.raises(UnknownBand, match="nir"):
        store(tmp_path, instrument="rgb_8bit")
