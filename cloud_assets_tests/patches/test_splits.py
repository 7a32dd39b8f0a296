from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cloud_assets.errors import InvalidData, InvalidRecipe, NoUsablePatches
from cloud_assets.patches.splits import SPLITS, GroupedSplit, Splits
from cloud_assets.patches.store import PatchStore

Make = Callable[..., PatchStore]


@pytest.mark.parametrize("seed", range(12))
def test_every_patch_is_in_one_split_and_no_group_in_two(coverage_store: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, groups = int(rng.integers(9, 120)), int(rng.integers(3, 25))
    kinds = ["clear", "clear thick", "thick", "clear thin", "clear shadow thick"]
    group = rng.integers(0, groups, count)
    group[:3] = [0, 1, 2]
    store = coverage_store([str(rng.choice(kinds)) for _ in range(count)], groups=[f"g{number}" for number in group])
    splits = GroupedSplit(seed=seed, classes="none").split(store)
    parts = [splits.indices(name) for name in SPLITS]
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(count))
    members = [set(group[part]) for part in parts]
    assert sum(len(part) for part in members) == len(set().union(*members))
    assert splits.leaking_groups() == []
    assert splits.class_problems() == []


def test_shares_and_coverage_come_out_even(coverage_store: Make) -> None:
    rng = np.random.default_rng(0)
    contents = [str(kind) for kind in rng.choice(["clear", "clear thick", "thick"], 400, p=[0.6, 0.3, 0.1])]
    store = coverage_store(contents, groups=[f"g{number // 4}" for number in range(400)])
    splits = GroupedSplit(fractions=(0.6, 0.2, 0.2)).split(store)
    overall = store.index["cloud_percentage"].mean()
    for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        rows = splits.indices(name)
        assert len(rows) / 400 == pytest.approx(share, abs=0.03)
        assert store.index["cloud_percentage"].iloc[rows].mean() == pytest.approx(overall, abs=5)


def test_the_same_seed_splits_alike_and_another_otherwise(coverage_store: Make) -> None:
    store = coverage_store(["clear thick"] * 60)
    versions = [GroupedSplit(seed=seed).split(store).data_version for seed in (0, 0, 1)]
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize("seed", range(10))
def test_rare_classes_reach_every_split(coverage_store: Make, seed: int) -> None:
    """Three of thirty scenes hold shadow, three others thin cloud: each split must get one of each."""
    contents = ["clear thick"] * 24 + ["clear thick shadow"] * 3 + ["clear thin thick"] * 3
    splits = GroupedSplit(classes="four", seed=seed).split(coverage_store(contents))
    assert splits.class_problems() == []
    assert [splits.summary()[name]["cloud_shadow"] for name in SPLITS] == [1, 1, 1]


def test_a_class_that_cannot_reach_every_split_is_reported(coverage_store: Make) -> None:
    splits = GroupedSplit(classes="four").split(coverage_store(["clear thick"] * 20 + ["clear thick shadow"] * 2))
    missing = splits.missing_classes()
    assert list(missing.values()) == [["cloud_shadow"]]
    assert splits.class_problems() == [f"the {next(iter(missing))} split holds no cloud_shadow."]


def test_unlabelled_patches_hold_no_class(coverage_store: Make) -> None:
    store = coverage_store(["unlabelled"] * 4 + ["clear thick"] * 12)
    summary = GroupedSplit().split(store).summary()
    assert sum(part["patches"] for part in summary.values()) == 16
    assert sum(part["clear"] for part in summary.values()) == 12


def test_shadow_is_clear_when_cloud_is_told_from_everything_else(coverage_store: Make) -> None:
    summary = GroupedSplit(classes="binary").split(coverage_store(["shadow"] * 6 + ["thick"] * 6)).summary()
    assert {name for name in summary["train"] if name not in ("patches", "groups")} == {"clear", "cloud"}


def test_too_few_groups_says_how_many_are_needed(coverage_store: Make) -> None:
    store = coverage_store(["clear thick"] * 8, groups=["north", "south"] * 4)
    with pytest.raises(InvalidRecipe, match=r"2 different values of 'group', but 3 splits .* need at least 3"):
        GroupedSplit().split(store)
    two = GroupedSplit(fractions=(0.5, 0.5, 0.0)).split(store)
    assert [len(two.indices(name)) for name in SPLITS] == [4, 4, 0]
    assert two.class_problems() == []
    assert all(len(GroupedSplit(by="scene_id").split(store).indices(name)) for name in SPLITS)


def test_an_unknown_column_is_said(coverage_store: Make) -> None:
    with pytest.raises(InvalidRecipe, match="cannot split by 'season': the index has the columns patch_id"):
        GroupedSplit(by="season").split(coverage_store(["clear"] * 5))


def test_official_splits_are_used_as_they_are(coverage_store: Make) -> None:
    official = ["train", "validation", "test", "test", "train"] * 4
    splits = GroupedSplit().split(coverage_store(["clear thick"] * 20, official_splits=official))
    assert splits.details["method"] == "official"
    assert list(splits.table["split"]) == official


def test_official_splits_can_be_declined(coverage_store: Make) -> None:
    official = ["train"] * 19 + ["test"]
    store = coverage_store(["clear thick"] * 20, official_splits=official)
    splits = GroupedSplit(prefer_official=False).split(store)
    assert splits.details["method"] == "grouped"
    assert len(splits.indices("test")) == 3


def test_a_missing_validation_split_is_carved_out_of_train(coverage_store: Make) -> None:
    groups = [f"g{number // 2}" for number in range(40)]
    official = ["test" if number >= 30 else "train" for number in range(40)]
    splits = GroupedSplit().split(coverage_store(["clear thick"] * 40, groups=groups, official_splits=official))
    assert splits.details["method"] == "official, validation carved out of train"
    assert list(splits.indices("test")) == list(range(30, 40))
    assert 4 <= len(splits.indices("validation")) <= 6
    assert splits.class_problems() == []


def test_a_group_in_two_official_splits_is_reported(coverage_store: Make) -> None:
    official = ["train", "validation", "test"] * 4
    groups = ["shared"] * 3 + [f"g{number}" for number in range(9)]
    splits = GroupedSplit().split(coverage_store(["clear thick"] * 12, groups=groups, official_splits=official))
    assert splits.leaking_groups() == ["shared"]
    assert splits.class_problems() == []


def test_an_emptied_split_is_reported(coverage_store: Make) -> None:
    splits = GroupedSplit().split(coverage_store(["clear thick"] * 12))
    splits.table = splits.table[splits.table["split"] != "validation"]
    assert splits.class_problems()[0] == "the validation split is empty."


def test_label_types_are_chosen(coverage_store: Make, tmp_path: Path) -> None:
    store = coverage_store(["clear thick"] * 30)
    store.index["label_type"] = ["high", "scribble", "scribble"] * 10
    high = GroupedSplit(label_types=("high",)).split(store)
    assert sorted(np.concatenate([high.indices(name) for name in SPLITS])) == list(range(0, 30, 3))
    held_out = GroupedSplit(held_out_label_types=("high",)).split(store)
    for name in ("validation", "test"):
        assert len(held_out.indices(name))
        assert (held_out.indices(name) % 3 == 0).all()
    assert set(range(30)) - set(range(0, 30, 3)) <= set(held_out.indices("train"))
    with pytest.raises(NoUsablePatches, match="there are: high, scribble"):
        GroupedSplit(label_types=("nolabel",)).split(store)


def test_labels_and_coverage_bins_can_be_the_classes(coverage_store: Make) -> None:
    labels = ["cloud", "noncloud", "cloud"] * 8
    by_label = GroupedSplit(classes="label", stratify="label").split(coverage_store(["clear"] * 24, labels=labels))
    assert by_label.class_problems() == []
    assert by_label.summary()["test"]["cloud"] == 2 * by_label.summary()["test"]["noncloud"] > 0
    contents = ["clear", "clear clear clear thick", "clear thick", "thick"] * 6
    bins = GroupedSplit(classes="coverage").split(coverage_store(contents))
    assert bins.class_problems() == []
    assert bins.summary()["validation"]["25-50 %"] >= 1


def test_splits_come_back_as_saved(coverage_store: Make, tmp_path: Path) -> None:
    store = coverage_store(["clear thick"] * 20)
    splits = GroupedSplit(classes="four").split(store)
    splits.save(tmp_path / "splits")
    opened = Splits.open(tmp_path / "splits")
    assert opened.data_version == splits.data_version
    assert opened.details["patches_version"] == store.data_version
    assert opened.summary() == splits.summary()
    for name in SPLITS:
        np.testing.assert_array_equal(opened.indices(name), splits.indices(name))
    (tmp_path / "splits" / "splits.json").unlink()
    with pytest.raises(InvalidData, match="no complete splits"):
        Splits.open(tmp_path / "splits")


def test_splits_of_other_patches_are_told_apart(coverage_store: Make) -> None:
    store = coverage_store(["clear thick"] * 6)
    splits = GroupedSplit().split(store)
    splits.check_belongs_to(store)
    with pytest.raises(InvalidRecipe, match=r"other patches .* make the splits anew"):
        Splits(splits.table, {**splits.details, "patches_version": "older"}).check_belongs_to(store)


def test_a_split_of_another_name_is_refused(coverage_store: Make) -> None:
    with pytest.raises(InvalidRecipe, match="'val' is no split"):
        GroupedSplit().split(coverage_store(["clear thick"] * 9)).indices("val")


@pytest.mark.parametrize(
    "fields", [{"fractions": (0.7, 0.2, 0.2)}, {"fractions": (0.0, 0.5, 0.5)}, {"coverage_bins": (50.0, 25.0)}]
)
def test_contradictions_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GroupedSplit(**fields)
