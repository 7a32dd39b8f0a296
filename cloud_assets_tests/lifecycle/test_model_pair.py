"""Two models side by side: from evaluations alone, and with the pictures of real ones."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cloud_assets.errors import InvalidReport, NoModelForProduct
from cloud_assets.families import FAMILIES
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets.lifecycle.model_pair import SHOWN_ENDS, compare_models
from cloud_assets.reports.statistics import scene_table
from cloud_assets.tracking import Tracker
from cloud_assets_tests.families.samples import SAMPLES
from cloud_assets_tests.reports.test_evaluation import make_evaluation


def tables(wrong: list[int], last: str = "last") -> dict[str, pd.DataFrame]:
    """Of patches with 100 pixels, 50 of them cloud, of which some are missed."""
    names = [*(f"patch {number:03d}" for number in range(len(wrong) - 1)), last]
    groups = [f"scene {number % 4}" for number in range(len(wrong))]
    counts = np.array([[50 - missed, 0, missed, 50] for missed in wrong])
    patches = {"patch_id": names, "group": groups, "wrong_percentage": np.array(wrong, float)}
    return {"per_patch": pd.DataFrame(patches), "per_scene": scene_table(groups, counts)}


def saved(folder: Path, variant: str, wrong: list[int], **changes: Any) -> Path:
    content = {
        "tables": tables(wrong),
        "metrics": {"iou": 1 - sum(wrong) / (50 * len(wrong)), "baseline_iou": 0.4},
    } | changes
    make_evaluation(variant, **content).save(folder / f"{variant}_report")
    return folder / f"{variant}_report"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return saved(tmp_path, "good", [2] * 11 + [9])


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return saved(tmp_path, "bad", [20] + [10] * 11)


def test_the_difference_has_its_interval_and_the_better_one_is_named(good: Path, bad: Path) -> None:
    page = compare_models(good, bad).laid_out
    assert [tile.value for tile in page.tiles] == ["0.9483", "0.7833", "+0.1650"]
    assert "paired bootstrap over 4 scenes" in page.summary
    assert page.summary.endswith("good is better.")
    assert compare_models(bad, good).laid_out.summary.endswith("good is better.")


def test_equal_models_cannot_be_told_apart(good: Path) -> None:
    page = compare_models(good, good).laid_out
    assert "interval +0.0000 to +0.0000" in page.summary
    assert page.summary.endswith("cannot be told from this test split.")
    assert [tile.label for tile in page.tiles] == ["good A", "good B", "Difference"]


def test_patches_are_sorted_by_their_difference(good: Path, bad: Path) -> None:
    table = compare_models(bad, good).laid_out.tables["patches"]
    assert list(table.columns) == ["patch_id", "group", "bad", "good", "difference"]
    assert table["difference"].tolist() == [18.0] + [8.0] * 10 + [1.0]
    assert table["patch_id"].iloc[[0, -1]].tolist() == ["patch 000", "last"]


def test_of_many_patches_both_ends_are_shown_and_it_is_said(tmp_path: Path) -> None:
    wrong = {"first": list(np.arange(240) % 40), "second": [5] * 240}
    folders = [saved(tmp_path, name, one) for name, one in wrong.items()]
    pair = compare_models(*folders)
    assert len(pair.laid_out.tables["patches"]) == 2 * SHOWN_ENDS
    assert any("Of 240 test patches" in note for note in pair.notes)


def test_rules_and_validation_are_not_among_the_metrics(good: Path, bad: Path) -> None:
    assert compare_models(good, bad).laid_out.tables["all_metrics"]["metric"].tolist() == ["iou"]


def test_without_patches_and_models_the_page_says_why_there_are_no_pictures(good: Path, bad: Path) -> None:
    pair = compare_models(good, bad)
    assert not pair.figures
    assert any("There are no pictures of patches" in note and "labeled_patches" in note for note in pair.notes)


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    recipes: Mapping[str, dict[str, str]] = {"a": {"seed": "0", "width": "8"}, "b": {"seed": "0", "width": "16"}}
    folders = [saved(tmp_path, name, [1] * 12, sections={"Recipe": recipe}) for name, recipe in recipes.items()]
    assert compare_models(*folders).laid_out.sections["Settings that differ"] == {"width": "8 and 16"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "other"}, "differ in their task"),
        ({"splits_version": "other"}, "differ in their splits version"),
        ({"patches_version": "other"}, "differ in their patches version"),
        ({"recipe": {"windows": 5}}, "different settings"),
        ({"tables": tables([1] * 12, "another")}, "different test patches"),
        ({"metrics": {"f1": 0.5}}, "no value for the gate's metric 'iou'"),
    ],
)
def test_what_is_not_comparable_is_refused(good: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    other = saved(tmp_path, "other", [1] * 12, **changes)
    with pytest.raises(InvalidReport, match=said):
        compare_models(good, other)


def test_registered_models_are_compared_by_the_evaluations_that_mlflow_keeps(
    tiny_bundle: Callable[..., ModelBundle], good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracker = Tracker()
    for seed, variant in enumerate(("first", "second")):
        bundle = tiny_bundle(seed=seed)
        (tmp_path / variant).mkdir()
        run_id = tracker.publish(tmp_path / variant, bundle)
        tracker.register(run_id, bundle, {})
        wrong = [2 + 8 * seed] * 12
        content = {"tables": tables(wrong), "metrics": {"iou": 1 - sum(wrong) / 600, "baseline_iou": 0.4}}
        tracker.log_evaluation(run_id, make_evaluation(variant, **content))
    tracker.set_alias("clouds", "champion", 2)
    page = compare_models("models:/clouds/1", "clouds@champion").laid_out
    assert [tile.label for tile in page.tiles] == ["first", "second", "Difference"]
    assert page.tiles[2].value == "+0.1600"
    assert compare_models(good, "models:/clouds@champion").laid_out.tiles[1].label == "second"
    with pytest.raises(NoModelForProduct, match="models:/clouds/7: not in"):
        compare_models(good, "models:/clouds/7")


def test_a_folder_without_an_evaluation_is_refused(good: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidReport, match="holds no Evaluation"):
        compare_models(good, tmp_path)


def test_the_command_writes_one_page_and_says_the_verdict(good: Path, bad: Path, tmp_path: Path) -> None:
    program = "from cloud_assets.command_line import main; main()"
    arguments = ["compare", str(good), str(bad), "--out", str(tmp_path / "page.html")]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}
    )
    assert result.returncode == 0, result.stderr
    assert "good is better." in result.stdout
    assert "clouds: good and bad" in (tmp_path / "page.html").read_text()


def test_pictures_are_of_the_patches_and_models_beside_the_reports(tmp_path: Path) -> None:
    sample, family = SAMPLES["segmentation"], FAMILIES["segmentation"]
    store = sample.store(tmp_path / "labeled_patches")
    splits = sample.split.split(store)
    folders = []
    for seed, variant in enumerate(("one", "two")):
        optimisation = sample.recipe.optimisation.model_copy(update={"seed": seed})
        recipe = sample.recipe.model_copy(update={"optimisation": optimisation})
        run = TrainingRun("task", variant, store, splits, tmp_path / "training" / variant, progress=False)
        bundle = family.train(recipe, run)
        bundle.save(tmp_path / f"{variant}_model")
        folders.append(tmp_path / f"{variant}_report")
        family.evaluate(sample.evaluator, bundle, store, splits, progress=False).save(folders[-1])
    pair = compare_models(*folders)
    assert pair.figures["largest_differences"].startswith(b"\x89PNG")
    assert not any("no pictures" in note for note in pair.notes)
    ModelBundle.open(tmp_path / "one_model").save(tmp_path / "two_model")
    changed = compare_models(*folders)
    assert not changed.figures
    assert any("have changed since" in note for note in changed.notes)


def test_a_mistyped_path_is_called_one(good: Path) -> None:
    with pytest.raises(InvalidReport, match=r"unet_raport does not exist\. Correct the path"):
        compare_models(good, good.with_name("unet_raport"))
