"""One training: its data, its workspace, its callbacks and its fingerprint."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from cloud_assets.networks.shipped import SHIPPED, SIMULATION, SIMULATION_WEIGHTS
from cloud_assets.patches.splits import Splits
from cloud_assets.patches.store import PatchStore
from cloud_assets.simulation import PHYSICS_VERSION

if TYPE_CHECKING:
    from cloud_assets.inference.bundle import ModelBundle

_SIMULATED = frozenset({"simulation", "clouds"})  # fields of recipes that say how patches or clouds are simulated
_WEIGHTS = ("encoder_weights", "weights")  # fields of recipes and of network specifications that name weights

TRAINING_VERSION = 7
"""Raised, and never lowered, when the same recipe on the same data would give other weights than before."""


def _ignore(*_: Any) -> None:
    """Null callback."""


@dataclass(frozen=True)
class TrainingRun:
    """What a training needs besides the recipe.

    A workspace belongs to one fingerprint: checkpoints in it are resumed.
    """

    task: str
    variant: str
    store: PatchStore  # the labelled patches
    splits: Splits  # which of them are for training and validation
    workspace: Path  # folder that outlives an interruption; checkpoints lie in its ``checkpoints``
    on_epoch: Callable[[int, Mapping[str, float]], None] = _ignore
    """Called after each epoch with its number (from 0) and metrics."""
    on_picture: Callable[[int, str, bytes], None] = _ignore
    """Called with the number of an epoch, the name of a picture made after it, and its PNG file."""
    progress: bool = True
    teacher: "ModelBundle | None" = None  # the variant that the recipe learns from, if it names one
    cache: Path | None = None  # folder of simulated patches that several trainings share. Unset: in the workspace.

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.workspace / "checkpoints"


def fingerprint(recipe: BaseModel, store: PatchStore, splits: Splits, teacher: "ModelBundle | None" = None) -> str:
    """Identifies a training by all that decides its outcome: a hash, 32 hexadecimal digits."""
    # On how many devices changes nothing: a training goes on from its checkpoint on any number of them.
    settings = recipe.model_dump_json(exclude={"optimisation": {"devices"}})
    parts = [str(TRAINING_VERSION), type(recipe).__name__, settings]
    parts += [store.data_version, splits.data_version, *beyond_the_recipe(recipe.model_dump())]
    parts += [] if teacher is None else [teacher.version]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def beyond_the_recipe(recipe: Mapping[str, Any]) -> list[str]:
    """What a recipe only names: the version of the physics, if patches or clouds are simulated; hashes of weights."""
    parts = [f"physics {PHYSICS_VERSION}"] if _SIMULATED & set(recipe) else []
    network = recipe.get("network")
    parents = [recipe, *([network] if isinstance(network, Mapping) else [])]
    files = [
        SIMULATION_WEIGHTS if parent[field] == SIMULATION else Path(str(parent[field])).expanduser()
        for parent in parents
        for field in _WEIGHTS
        if parent.get(field) is not None
    ]
    if distil := recipe.get("distil"):
        named = distil["teacher"]
        files.append(SIMULATION_WEIGHTS if named in SHIPPED else Path(named).expanduser() / SIMULATION_WEIGHTS.name)
    for file in files:
        if file.is_file():
            with file.open("rb") as opened:
                parts.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return parts
