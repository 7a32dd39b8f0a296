"""A task for labelled scenes of one's own: looks at the files and writes the declaration that makes them a lineage."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cloud_assets.bands import CLASS_NAMES, INSTRUMENTS, UNLABELLED
from cloud_assets.datasets.catalog import SceneCatalog
from cloud_assets.errors import InvalidData, InvalidRecipe
from cloud_assets.imagery.labelled_scenes import LabelledScenes, classes_of, mask_values
from cloud_assets.storage import atomic_file
from cloud_assets.tasks import TASKS
from cloud_assets.tasks.own_tasks import tasks_folder

Kind = Literal["segmentation", "coverage"]
_COMPONENT = "cloud_assets.orchestration.task_component.TaskComponent"
_SHIPPED_BANDS = ("red", "green", "blue", "nir")
_PATCH = 256
_FEWEST_GROUPS = 3
_BINARY: dict[frozenset[str], dict[str, str]] = {
    frozenset({"0", "255"}): {"0": "clear", "255": "thick cloud"},
    frozenset({"255"}): {"255": "thick cloud"},
}
"""Codes of masks that are black-and-white pictures."""


@dataclass(frozen=True)
class Survey:
    """What was found in a folder of labelled scenes."""

    dataset: LabelledScenes
    catalog: SceneCatalog
    codes: Counter[str]
    """Codes or classes in the masks, and how often each occurs."""

    @property
    def instrument(self) -> str:
        """The instrument of the scenes."""
        return self.catalog.scenes[0].instrument

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the bands that every scene has, or of the four that the shipped model reads."""
        profile = INSTRUMENTS[self.instrument]
        shared = [name for name in profile.names if all(name in scene.bands for scene in self.catalog)]
        common = tuple(profile.find(name).common_name for name in shared)
        return _SHIPPED_BANDS if set(_SHIPPED_BANDS) <= set(common) else common

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Height and width of the scenes."""
        grids = [scene.grid() for scene in self.catalog]
        return Counter((grid.height, grid.width) for grid in grids)

    def lines(self) -> list[str]:
        """What was found, for people."""
        low, high = min(self.sizes), max(self.sizes)
        size = f"{low[1]} x {low[0]}" + ("" if low == high else f" to {high[1]} x {high[0]}")
        shares = ", ".join(f"{name} {share:.1f} %" for name, share in classes_of(self.catalog).items())
        meaning = self.dataset.legend()
        names = {**CLASS_NAMES, UNLABELLED: "unlabelled"}
        told = {code: names[code] for code in (*CLASS_NAMES, UNLABELLED)}
        codes = ", ".join(
            f"{code} = {told.get(meaning[code.lower()] if meaning else int(code), '?')}" for code in sorted(self.codes)
        )
        groups = len({scene.group for scene in self.catalog})
        return [
            f"{len(self.catalog)} images with masks: {self.instrument}, {', '.join(self.bands)}, {size} pixels",
            f"masks: {codes}; {shares}",
            f"{groups} groups that a split must not cut (scenes by name, overlapping ground)",
            *(f"left out: {skipped}" for skipped in self.catalog.skipped),
        ]


def survey(dataset: LabelledScenes, cache: Path) -> Survey:
    """Looks at every image and mask.

    Args:
        dataset: Where they are; codes that it does not explain are guessed where that is safe.
        cache: Where converted scenes are kept.

    Raises:
        DataNotFound: If there is no image with a mask.
        InvalidData: If the codes have to be explained, too many images are unusable, or a split is impossible.
    """
    folder = dataset.find_folder(Path())
    pairs, _ = dataset.pairs(folder)
    codes: Counter[str] = Counter()
    for mask in dict.fromkeys(pair.mask for pair in pairs):
        codes += mask_values(mask)
    if not dataset.codes and (guessed := _BINARY.get(frozenset(codes))):
        dataset = dataset.model_copy(update={"codes": guessed})
    catalog = dataset.catalog(Path(), cache)
    groups = {scene.group for scene in catalog}
    if len(groups) < _FEWEST_GROUPS:
        raise InvalidData(
            f"{folder}: the images are of {len(groups)} acquisition(s), at least {_FEWEST_GROUPS} are needed: "
            "training, validation and test must not share one. Add scenes, or say what belongs together "
            "(--group-pattern)."
        )
    return Survey(dataset, catalog, codes)


def declaration(name: str, found: Survey, kind: Kind, steps: int) -> dict[str, Any]:
    """The component's file for a task, as plain values.

    Args:
        name: Name of the task.
        found: What its data are.
        kind: Masks, or classes of cloud cover that are counted in the masks.
        steps: Steps of each training.

    Raises:
        InvalidRecipe: If the name cannot be a task's, or is one already.
    """
    if not name.isidentifier():
        raise InvalidRecipe(f"{name!r} cannot name a task: use letters, digits and underscores.")
    if name in TASKS:
        raise InvalidRecipe(f"there is a task {name!r} already; choose another name.")
    variants: dict[str, dict[str, Any]]
    if kind == "coverage":
        optimisation = {"scheduler": "cosine", "steps": steps, "max_epochs": 1000, "patience": None}
        variants = {
            "mobilenet": {"Classification": {"network": {"backbone": "mobilenet"}, "optimisation": optimisation}}
        }
        gate = {"metric": "accuracy", "mode": "max"}
    else:
        network = {"architecture": "unet", "width": 32}
        variants = {"unet": {"mixed_with_simulation": {"network": network, "steps": steps}}}
        if found.bands == _SHIPPED_BANDS:
            variants["unet_efficientnet_b2"] = {"from_simulation": {"steps": steps}}
        gate = {"metric": "iou", "mode": "max"}
    small = max(max(size) for size in found.sizes) <= _PATCH and len(found.sizes) == 1
    return {
        "type": _COMPONENT,
        "attributes": {
            "name": name,
            "title": f"{name.replace('_', ' ')}, learnt from labels of our own",
            "dataset": {"LabelledScenes": found.dataset.model_dump(mode="json", exclude_defaults=True)},
            "patches": {"bands": list(found.bands), **({} if small else {"size": _PATCH}), "minimum_valid": 0.2},
            "split": {"by": "group", "stratify": "cloud_percentage", "fractions": [0.7, 0.15, 0.15]},
            "variants": variants,
            "evaluation": {},
            "gate": gate,
        },
    }


def write_task(name: str, found: Survey, kind: Kind, steps: int, *, force: bool = False) -> Path:
    """Writes the declaration into the folder of own tasks.

    Returns:
        The file.

    Raises:
        InvalidRecipe: If the name cannot be a task's or is taken, or there is no folder for tasks.
    """
    import yaml

    content = declaration(name, found, kind, steps)
    folder = tasks_folder()
    if folder is None:
        raise InvalidRecipe("results lie in an object store: set CLOUD_ASSETS_TASKS to a folder for tasks of your own.")
    path = folder / f"{name}.yaml"
    if path.exists() and not force:
        raise InvalidRecipe(f"{path} is there already: choose another name, or replace it (--force).")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8")
    return path
