"""Old models are judged on test scenes that they were not trained on, however splits are drawn meanwhile."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.promotion import SEEN_FILE, held_out_test
from cloud_assets.patches.splits import Splits
from cloud_assets.tracking import RegisteredVersion, Tracker


@pytest.fixture
def version(tracker: Tracker, tmp_path: Path, tiny_bundle: Callable[..., ModelBundle]) -> RegisteredVersion:
    bundle = tiny_bundle()
    return tracker.register(tracker.publish(tmp_path, bundle), bundle, {})


@pytest.fixture
def wide(splits: Splits) -> Splits:
    """Splits with one training scene and five test scenes."""
    table = splits.table.sort_values("patch_id", ignore_index=True)
    table["split"] = ["train", *["test"] * 5]
    return Splits(table, splits.details)


def test_what_a_model_has_seen_is_left_out(version: RegisteredVersion, tracker: Tracker, wide: Splits) -> None:
    groups = sorted(wide.table["group"])
    tracker.note(version.run_id, SEEN_FILE, {"groups": groups[:3]})
    fair, said = held_out_test(wide, version, tracker)
    assert sorted(fair.table.loc[fair.table["split"] == "test", "group"]) == groups[3:]
    assert fair.indices("train").tolist() == wide.indices("train").tolist()
    assert "3 of 5 test scenes" in said
    assert len(wide) == 6


@pytest.mark.parametrize("noted", [None, [], ["elsewhere"]])
def test_an_unknown_past_leaves_nothing_out(
    version: RegisteredVersion, tracker: Tracker, wide: Splits, noted: list[str] | None
) -> None:
    if noted is not None:
        tracker.note(version.run_id, SEEN_FILE, {"groups": noted})
    assert held_out_test(wide, version, tracker) == (wide, "")


def test_too_few_unseen_scenes_are_said(version: RegisteredVersion, tracker: Tracker, wide: Splits) -> None:
    tracker.note(version.run_id, SEEN_FILE, {"groups": sorted(wide.table["group"])[:5]})
    fair, said = held_out_test(wide, version, tracker)
    assert fair is wide
    assert "4 of the 5 test scenes, which flatters it" in said
