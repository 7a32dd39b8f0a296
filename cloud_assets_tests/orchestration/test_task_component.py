"""A task that a YAML file of the user's own describes."""

from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from cloud_assets.datasets.cloud38 import Cloud38
from cloud_assets.errors import InvalidRecipe
from cloud_assets.families.segmentation.recipe import Segmentation, SegmentationEvaluation
from cloud_assets.networks.specifications import UNet
from cloud_assets.orchestration.task_component import TaskComponent
from cloud_assets.reports.comparison import Gate

YAML = """
type: cloud_assets.orchestration.task_component.TaskComponent
attributes:
  name: field_masks
  title: Cloud masks of our fields
  dataset: {Cloud38: {max_skipped_fraction: 0.1}}
  patches: {bands: [red, green, blue, nir], minimum_valid: 0.2}
  split: {fractions: [0.6, 0.2, 0.2]}
  variants:
    small: {Segmentation: {network: {architecture: unet, width: 8}}}
    large: {cloud_assets.families.segmentation.recipe.Segmentation: {network: {architecture: unet, width: 64}}}
  evaluation: {}
  gate: {metric: iou, minimum: 0.5}
  optional_variants: [large]
"""


def attributes(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = yaml.safe_load(YAML)["attributes"]
    return {**given, **changes}


def test_one_file_makes_a_lineage() -> None:
    with create_defs_folder_sandbox() as sandbox:
        (sandbox.defs_folder_path / "field_masks").mkdir()
        (sandbox.defs_folder_path / "field_masks" / "defs.yaml").write_text(YAML)
        with sandbox.build_all_defs() as defs:
            keys = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
            names = ["raw_scenes", "labeled_patches", "splits", "small_model", "small_report", "large_model"]
            assert {f"field_masks/{name}" for name in [*names, "comparison", "champion"]} <= keys
            job = defs.resolve_job_def("field_masks")
            assert dg.validate_run_config(job)
            assert dg.AssetKey(["field_masks", "large_model"]) not in job.asset_layer.executable_asset_keys


def test_names_and_values_become_the_declaration() -> None:
    task = TaskComponent(**attributes()).task()
    assert task.dataset == Cloud38(max_skipped_fraction=0.1)
    assert task.variants == {name: Segmentation(network=UNet(width=w)) for name, w in (("small", 8), ("large", 64))}
    assert task.evaluation == SegmentationEvaluation()
    assert task.gate == Gate(metric="iou", minimum=0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": {"Cloud39": {}}}, "dataset: there is no class Cloud39; short names are CloudSEN12"),
        ({"dataset": {"Cloud38": {"years": 3}}}, "dataset.Cloud38: years: Extra inputs"),
        ({"patches": {"bands": ["red"], "size": -1}}, "patches: size"),
        ({"variants": {}}, "must be of one family"),
        (
            {"variants": {"a": {"Segmentation": {"network": {"architecture": "net"}}}}},
            "variants.a.Segmentation: network",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRecipe, match=said):
        TaskComponent(**attributes(**changes)).task()
