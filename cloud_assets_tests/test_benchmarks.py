"""Tables and pictures of the benchmarks, from made-up figures."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Imports a benchmark by its name, as running it does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(name: str) -> ModuleType:
        return sys.modules.get(name) or importlib.import_module(name)

    return load


def test_models_and_back_ends_are_all_combined_but_where_one_is_named(script):
    chosen = script("frontier").chosen(["a=folder/a", "b=models:/x@champion,onnxruntime"], ["auto", "torch"])
    assert chosen == {
        "a": ("folder/a", "auto"),
        "a, torch": ("folder/a", "torch"),
        "b": ("models:/x@champion", "onnxruntime"),
    }


def test_the_frontier_is_sorted_by_speed_and_drawn(script, tmp_path):
    frontier = script("frontier")
    sets = ("38-cloud", "38-cloud, test split", "oncloudn chip_1", "oncloudn chip_4")
    taken = {"cpu": 4.0, "megapixels": 4.0, "peak": 300.0, "total": 900.0, "ran": ""}
    times = {
        "simulation": {**taken, "seconds": 2.0, "ran": "torch float32 on cpu"},
        "threshold on brightness": {**taken, "seconds": 0.2},
        "s2cloudless": {**taken, "seconds": 16.0},
    }
    quality = {"simulation": dict.fromkeys(sets, 0.8), "threshold on brightness": dict.fromkeys(sets, 0.6)}
    methods = {name: (name, "") for name in times}
    rows = frontier.table(methods, times, quality, busy=False)
    assert [row["method"] for row in rows] == ["threshold on brightness", "simulation", "s2cloudless"]
    assert [row["mean cloud IoU"] for row in rows] == ["0.600", "0.800", "–"]
    assert [row["seconds a megapixel"] for row in rows] == ["0.050", "0.500", "4.000"]
    frontier.draw(rows, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    speed_alone = frontier.table(methods, times, {}, busy=True)
    assert {row["mean cloud IoU"] for row in speed_alone} == {"–"}


@pytest.mark.parametrize("length", [300, 1000, 1001, 2048, 10_980])
def test_the_windows_of_a_peer_cover_a_side(script, length):
    seen = np.zeros(length, int)
    for part in script("peers")._spread(length):
        seen[part] += 1
        assert part.stop - part.start == min(1000, length)
    assert seen.min() >= 1


def test_memory_of_a_piece_of_work_is_its_own(script):
    taken = script("measuring").measured(lambda: np.ones(40_000_000, np.uint8))
    assert 30 < taken["peak"] < 200
    assert taken["seconds"] > 0
