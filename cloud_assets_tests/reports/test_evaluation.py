import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_assets.errors import InvalidReport
from cloud_assets.reports.evaluation import Evaluation


def make_evaluation(variant: str = "unet", iou: float = 0.7, **changes: Any) -> Evaluation:
    evaluation = Evaluation(
        task="clouds",
        variant=variant,
        metrics={"iou": iou, "baseline_iou": 0.5, "validation_iou": 0.8},
        model_version=f"model of {variant}",
        patches_version="patches",
        splits_version="splits",
        is_synthetic=False,
        tables={
            "per_scene": pd.DataFrame({"group": ["007", "NA"], "iou": [0.1 + 0.2, math.nan], "tp": [1, 2**40]}),
            "baselines": pd.DataFrame({"baseline": ["brightness threshold"], "iou": [0.5]}),
        },
        figures={"second": b"\x89PNG second", "first": b"\x89PNG first"},
        notes=("shared note", f"note of {variant}"),
        headline=("iou",),
        captions={"first": "a caption"},
        sections={"Data": {"patches": "12"}},
    )
    return replace(evaluation, **changes)


def test_a_saved_evaluation_comes_back_the_same(tmp_path: Path) -> None:
    evaluation = make_evaluation()
    evaluation.save(tmp_path / "evaluation")
    opened = Evaluation.open(tmp_path / "evaluation")
    for name, table in evaluation.tables.items():
        pd.testing.assert_frame_equal(opened.tables[name], table, check_exact=True)
    assert list(opened.tables["per_scene"]["group"]) == ["007", "NA"]
    assert list(opened.figures) == ["second", "first"]
    unchanged = {"tables": {}, "notes": (), "headline": ()}
    assert replace(opened, **unchanged) == replace(evaluation, **unchanged)
    assert tuple(opened.notes) == tuple(evaluation.notes)
    assert opened.data_version == evaluation.data_version


def test_metrics_json_is_a_flat_object_of_finite_numbers(tmp_path: Path) -> None:
    make_evaluation().save(tmp_path / "evaluation")
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert metrics == {"iou": 0.7, "baseline_iou": 0.5, "validation_iou": 0.8}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_refused_by_name(value: float) -> None:
    with pytest.raises(InvalidReport, match="clouds/unet: the metrics iou are not finite"):
        make_evaluation(iou=value)


def test_saving_replaces_the_folder_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    make_evaluation().save(folder)
    replace(make_evaluation(), figures={"only": b"\x89PNG"}).save(folder)
    assert [path.name for path in (folder / "figures").iterdir()] == ["only.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


def test_the_old_version_stays_if_saving_fails(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    make_evaluation().save(folder)
    broken = replace(make_evaluation(iou=0.1), figures={"no bytes": "text"})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        broken.save(folder)
    assert Evaluation.open(folder).metrics["iou"] == 0.7
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


def test_a_damaged_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidReport, match="Evaluate the model again"):
        Evaluation.open(tmp_path)
    make_evaluation().save(tmp_path / "evaluation")
    (tmp_path / "evaluation" / "figures" / "first.png").unlink()
    with pytest.raises(InvalidReport, match=r"first\.png"):
        Evaluation.open(tmp_path / "evaluation")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    make_evaluation().save(tmp_path)
    path = tmp_path / "evaluation.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 1'))
    with pytest.raises(InvalidReport, match=r"schema version 1, this version reads 2.*Evaluate the model again"):
        Evaluation.open(tmp_path)


def test_the_data_version_follows_the_numbers_and_not_the_clock() -> None:
    evaluation = make_evaluation()
    assert replace(evaluation, created="2020-01-01T00:00:00+00:00").data_version == evaluation.data_version
    trained_again = {"Training": {"time": "7.0 min on cpu", "finished": "2020-01-01T00:00:00+00:00"}}
    assert replace(evaluation, sections=trained_again).data_version == evaluation.data_version
    assert make_evaluation(iou=0.71).data_version != evaluation.data_version


def test_declaring_an_evaluation_imports_nothing_heavy() -> None:
    modules = ("reports.comparison", "reports.evaluation", "reports.statistics", "families.segmentation.recipe")
    program = "\n".join(f"import cloud_assets.{module}" for module in modules)
    program += "\nimport sys\nprint(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "sklearn", "matplotlib", "pandas", "scipy", "rasterio", "jinja2", "torchmetrics"}
    assert heavy.isdisjoint(loaded)
