"""Jobs: each runs without a configuration file, and its steps one after the other."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from cloud_assets import run_configs
from cloud_assets.orchestration.asset_parts import asset_key, variant_keys
from cloud_assets.orchestration.champion_assets import CHAMPION_EVALUATION, monitoring_keys
from cloud_assets.orchestration.console import LOGGER, summary_after_champion
from cloud_assets.orchestration.scene_assets import GROUP, SCENE_PRODUCTS
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

DEMO, SCENE_JOB = "demo", "scene_products"
TASK_TAG = "cloud_assets/task"  # tag of every run of a task; an instance lets one at a time run
SCENES_TAG = "cloud_assets/scenes"  # tag of every run of scenes; an instance says how many may run at once
DATA = ("raw_scenes", "labeled_patches", "splits")  # names of the assets of a task's data


def task_jobs(task: Task) -> list["UnresolvedAssetJobDefinition"]:
    """A task's jobs: its whole lineage, the champion on the labelled data of today, drift and suspicious labels."""
    judged = [asset_key(task, name) for name in (*DATA, CHAMPION_EVALUATION)]
    return [
        _lineage_job(task.name, task, f"{task.title}: from raw scenes to the champion.", {}),
        _job(
            champion_evaluation_job_name(task),
            task.name,
            dg.AssetSelection.assets(*judged),
            f"{task.title}: how good the champion is on the labelled data of today.",
        ),
        _job(
            monitoring_job_name(task),
            task.name,
            dg.AssetSelection.assets(*monitoring_keys(task)),
            f"{task.title}: drift of what came in, and labels that should be looked at again.",
        ),
    ]


def champion_evaluation_job_name(task: Task) -> str:
    """Name of the job that reads the labelled data again and judges the champion on them."""
    return f"{task.name}_{CHAMPION_EVALUATION}"


def monitoring_job_name(task: Task) -> str:
    """Name of the job that refreshes drift report and suspicious labels; it needs a champion."""
    return f"{task.name}_monitoring"


def demo_job(task: Task) -> "UnresolvedAssetJobDefinition":
    """The README's first command: a task's lineage on the embedded sample, in minutes on two cores."""
    what = f"The whole lineage of {task.name} on the embedded synthetic sample, with a small training budget."
    return _lineage_job(DEMO, task, what, run_config(DEMO, "from_simulation"))


def scene_job() -> "UnresolvedAssetJobDefinition":
    """The job that makes the products of the scenes it is given, or of all in the inbox if it is given none."""
    what = "All products of scenes in the inbox, by the champions that learnt from real data."
    return _job(SCENE_JOB, GROUP, dg.AssetSelection.assets(SCENE_PRODUCTS), what)


def run_config(job: str, size: str) -> dict[str, Any]:
    """A run configuration of the package: the content of ``run_configs/<job>.<size>.yaml``."""
    return dict(dg.config_from_pkg_resources([(run_configs.__name__, f"{job}.{size}.yaml")]))


def _lineage_job(name: str, task: Task, what: str, config: dict[str, Any]) -> "UnresolvedAssetJobDefinition":
    """Without optional variants, and without what looks at a champion that is there already and has jobs of its own."""
    left_out = [asset_key(task, CHAMPION_EVALUATION), *monitoring_keys(task)]
    left_out += variant_keys(task, task.optional_variants)
    selection = dg.AssetSelection.groups(task.name) - dg.AssetSelection.assets(*left_out)
    return _job(name, task.name, selection, what, config=config, hooks={summary_after_champion})


def _job(
    name: str, about: str, selection: dg.AssetSelection, what: str, *, config: dict[str, Any] | None = None, **more: Any
) -> "UnresolvedAssetJobDefinition":
    config = {"loggers": {LOGGER: {"config": {}}}, **(config or {})}
    tags = {SCENES_TAG if about == GROUP else TASK_TAG: about}
    return dg.define_asset_job(name, selection, description=what, config=config, tags=tags, **more)
