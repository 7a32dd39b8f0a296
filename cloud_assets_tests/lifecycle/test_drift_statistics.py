"""Drift: known answers, agreement with SciPy, and batches of correlated patches that must not be flagged."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from cloud_assets.errors import InvalidReport, NoUsablePatches
from cloud_assets.lifecycle.drift import BatchDrift, DriftReport, drawn
from cloud_assets.lifecycle.drift_statistics import (
    DriftDetector,
    DriftRecipe,
    Sample,
    _kolmogorov_smirnov,
    population_stability_index,
)

RECIPE = DriftRecipe(resamples=199, warning=0.05, severe=0.01)


def world(rng: np.random.Generator, groups: int, patches: int = 6, shift: float = 0.0, first: int = 0) -> Sample:
    """Patches whose groups differ far more than the patches of one group."""
    numbers = np.repeat(np.arange(first, first + groups), patches)
    level = np.repeat(rng.normal(0, 1, groups), patches)
    values = {name: level + rng.normal(0, 0.1, len(numbers)) + shift for name in ("mean_red", "dark_red")}
    return Sample(values, numbers)


def test_stability_index_has_its_textbook_value() -> None:
    counts = np.array([[20.0, 80.0], [50.0, 50.0]]) * 1e6 - 0.5
    expected = (0.5 - 0.2) * math.log(0.5 / 0.2) + (0.5 - 0.8) * math.log(0.5 / 0.8)
    assert population_stability_index(counts[0], counts[1]) == pytest.approx(expected, rel=1e-6)
    assert population_stability_index(counts[0], counts[0]) == 0


def test_empty_bins_count_much_but_not_infinitely() -> None:
    index = population_stability_index(np.array([50.0, 50.0, 0.0]), np.array([0.0, 0.0, 100.0]))
    assert 1 < index < 20


def test_distance_of_subsets_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 12, 60).astype(np.float64)  # many ties
    first, second = rng.random((8, 60)) < 0.4, rng.random((8, 60)) < 0.5
    ours = _kolmogorov_smirnov(values, first, second)
    theirs = [ks_2samp(values[a], values[b]).statistic for a, b in zip(first, second, strict=True)]
    assert ours == pytest.approx(theirs)


def test_other_groups_of_the_same_world_are_seldom_flagged() -> None:
    """A test that took patches for independent would flag nearly every batch of four groups."""
    flagged, naive = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        reference, batch = world(rng, 40), world(rng, 4, first=100)
        flagged += DriftDetector(reference, RECIPE).compare(batch).level(RECIPE) != "steady"
        naive += ks_2samp(reference.features["mean_red"], batch.features["mean_red"]).pvalue < RECIPE.warning
    assert flagged <= 8  # 5 % of 60 are 3; more than 8 happen once in 400 times
    assert naive > 30


@pytest.mark.parametrize(("shift", "level"), [(0.0, "steady"), (1.5, "severe"), (-1.5, "severe")])
def test_a_shift_is_found_and_named(shift: float, level: str) -> None:
    rng = np.random.default_rng(3)
    reference, batch = world(rng, 60), world(rng, 25, first=100)
    moved = {**batch.features, "dark_red": batch.features["dark_red"] + shift}
    drift = DriftDetector(reference, RECIPE).compare(Sample(moved, batch.groups))
    assert drift.level(RECIPE) == level
    if shift:
        assert drift.features[0].name == "dark_red"
        assert drift.features[0].psi > RECIPE.severe_stability_index


def test_many_patches_of_one_scene_are_no_more_evidence_than_a_few() -> None:
    rng = np.random.default_rng(5)
    reference = world(rng, 40)
    one_scene = world(rng, 1, patches=400, first=100)
    drift = DriftDetector(reference, RECIPE).compare(one_scene)
    assert drift.patches == 6
    assert drift.level(RECIPE) == "steady"


def test_a_large_batch_or_too_few_groups_are_no_crash() -> None:
    rng = np.random.default_rng(0)
    assert 0 < DriftDetector(world(rng, 6), RECIPE).compare(world(rng, 50, first=100)).p_value <= 1
    with pytest.raises(NoUsablePatches, match="at least 4"):
        DriftDetector(world(rng, 3), RECIPE)
    with pytest.raises(NoUsablePatches, match="0 features"):
        DriftDetector(world(rng, 6), RECIPE).compare(Sample({"other": np.zeros(3)}, np.zeros(3, np.int64)))


def finding(kind: str = "scene", level: str = "steady", name: str = "a") -> BatchDrift:
    return BatchDrift(name, kind, "2026-01-01T00:00:00+00:00", level, 0.5, 8, 1, "dark_red", 0.2, 0.1)  # type: ignore[arg-type]


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    import pandas as pd

    batches = (finding(), finding("recent scenes", "warning", "b"), finding("new patches", "severe", "c"))
    seen = pd.DataFrame({"mean_red": [0.1, 0.2], "batch": ["007", "007"], "seen": ["x", "x"]})
    report = DriftReport(
        task="clouds",
        model_version="m",
        batches=batches,
        tables={"observations": seen},
        notes=["a note"],
        figures=drawn(batches),
    )
    report.save(tmp_path / "report")
    again = DriftReport.open(tmp_path / "report")
    assert tuple(again.batches) == batches
    assert again.level == "severe"
    assert again.observations is not None
    assert again.observations.equals(seen)
    assert again.data_version == report.data_version
    assert (tmp_path / "report" / "figures" / "over_time.png").read_bytes().startswith(b"\x89PNG")
    assert "warning" in (tmp_path / "report" / "report.html").read_text()


def test_only_the_latest_joint_findings_count() -> None:
    old, new = finding("recent scenes", "severe", "old"), finding("recent scenes", "steady", "new")
    assert DriftReport(task="clouds", model_version="m", batches=(old, finding(level="severe"), new)).level == "steady"


def test_a_damaged_report_says_so(tmp_path: Path) -> None:
    (tmp_path / "drift.json").write_text('{"schema_version": 99}')
    with pytest.raises(InvalidReport, match="schema version 99"):
        DriftReport.open(tmp_path)
