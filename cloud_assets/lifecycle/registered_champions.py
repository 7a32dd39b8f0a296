"""The registered champions that scenes are processed with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloud_assets.errors import InvalidModel, NoModelForProduct
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.lifecycle.promotion import CHAMPION
from cloud_assets.tasks.task import Task

if TYPE_CHECKING:
    from cloud_assets.tracking import Tracker


@dataclass(frozen=True)
class RegisteredChampions:
    """The champions that there are."""

    bundles: tuple[ModelBundle, ...]
    """One a task, in the order of the tasks."""
    versions: tuple[str, ...]
    """``models:/<task>/<version>`` of each, in the same order."""
    left_out: tuple[str, ...]
    """A sentence for each task that has none."""


def registered_champions(tracker: "Tracker", tasks: Sequence[Task]) -> RegisteredChampions:
    """Gets the champions of tasks from the registry.

    Args:
        tracker: The registry.
        tasks: The tasks. One that has no champion, or one that this installation cannot read, is left out.

    Returns:
        The champions.

    Raises:
        NoModelForProduct: If no task has one.
        TrackingUnavailable: If the registry does not answer.
    """
    bundles, versions, left_out = [], [], []
    for task in tasks:
        version = tracker.version_at(task.name, CHAMPION)
        if version is None:
            left_out.append(f"{task.name} has no champion yet; scenes go without it.")
            continue
        try:
            bundles.append(tracker.download(version))
        except InvalidModel as error:
            left_out.append(f"The champion of {task.name} cannot be used; scenes go without it: {error}")
        else:
            versions.append(f"models:/{task.name}/{version.version}")
    if not bundles:
        raise NoModelForProduct(
            f"no task has a champion in {tracker.uri}. Train one (for example: dagster job execute -m "
            "cloud_assets.definitions -j demo), set MLFLOW_TRACKING_URI, name a model folder (cloud-assets predict "
            "--model), or take the one that comes with the package (--model simulation)."
        )
    return RegisteredChampions(tuple(bundles), tuple(versions), tuple(left_out))
