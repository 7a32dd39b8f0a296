"""Jobs: one a task, and the demo. Each runs without a configuration file, and its steps one after the other."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from cloud_assets import run_configs
from cloud_assets.orchestration.automation.automation_settings import TASK_TAG
from cloud_assets.orchestration.common.asset_parts import variant_keys
from cloud_assets.orchestration.common.console import LOGGER
from cloud_assets.orchestration.common.summary import summary_after_champion
from cloud_assets.orchestration.lineage.champion_evaluation import NAME as CHAMPION_EVALUATION
from cloud_assets.orchestration.lineage.monitoring_assets import monitoring_keys
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

DEMO = "demo"


def task_job(task: Task) -> "UnresolvedAssetJobDefinition":
    """The job that materialises a task's whole lineage."""
    return _job(task.name, task, f"{task.title}: from raw scenes to the champion.", {})


def demo_job(task: Task) -> "UnresolvedAssetJobDefinition":
    """The README's first command: a task's lineage on the embedded sample, in minutes on two cores."""
    what = f"The whole lineage of {task.name} on the embedded synthetic sample, with a small training budget."
    return _job(DEMO, task, what, run_config(DEMO, "from_simulation"))


def run_config(job: str, size: str) -> dict[str, Any]:
    """A run configuration of the package.

    Args:
        job: Name of the job.
        size: ``quick``, ``full``, or ``from_simulation`` (what the demo runs with).

    Returns:
        The content of ``run_configs/<job>.<size>.yaml``.
    """
    return dict(dg.config_from_pkg_resources([(run_configs.__name__, f"{job}.{size}.yaml")]))


def _left_out(task: Task) -> dg.AssetSelection:
    """Optional variants, and what looks at a champion that is there already and has jobs of its own."""
    keys = variant_keys(task, task.optional_variants)
    return dg.AssetSelection.assets(dg.AssetKey([task.name, CHAMPION_EVALUATION]), *monitoring_keys(task), *keys)


def _job(name: str, task: Task, description: str, config: dict[str, Any]) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.groups(task.name) - _left_out(task),
        description=description,
        config={"loggers": {LOGGER: {"config": {}}}, **config},
        tags={TASK_TAG: task.name},
        hooks={summary_after_champion},
    )
