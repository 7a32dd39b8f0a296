"""Champions of other tasks that a task's models are compared with."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg

from cloud_assets.errors import InvalidModel, TrackingUnavailable
from cloud_assets.orchestration.common.resources import Tracking
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle


def reference_keys(task: Task) -> list[dg.AssetKey]:
    """The champions, for the lineage; a task runs without them, too."""
    return [dg.AssetKey([name, "champion"]) for name in task.references]


def reference_arguments(task: Task, tracking: Tracking, warn: Callable[[str], None]) -> dict[str, Any]:
    """What a task's evaluation is handed besides model and data.

    Args:
        task: The task.
        tracking: Where champions are registered.
        warn: Called with one sentence for each champion that cannot be had.

    Returns:
        Nothing for a task without references, else ``references``: those champions that there are, by task.
    """
    if not task.references:
        return {}
    from cloud_assets.lifecycle.promotion import CHAMPION

    champions: dict[str, ModelBundle] = {}
    tracker = tracking.tracker()
    for name in task.references:
        try:
            version = tracker.version_at(name, CHAMPION)
            if version is not None:
                champions[name] = tracker.download(version)
        except (TrackingUnavailable, InvalidModel) as error:
            warn(f"No comparison with the champion of {name}: {error}")
    return {"references": champions}
