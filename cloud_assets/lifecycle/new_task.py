"""A task for labelled scenes of one's own: looks at the files and writes the declaration that makes them a lineage."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cloud_assets.bands import CLASS_NAMES, INSTRUMENTS, UNLABELLED
from cloud_assets.datasets.scene import SceneCatalog
from cloud_assets.errors import InvalidData, InvalidRecipe
from cloud_assets.imagery.labelled_scenes import (
    LabelledScenes,
    class_attribute,
    classes_of,
    is_drawn,
    mask_values,
    meaning,
)
from cloud_assets.storage import atomic_file
from cloud_assets.tasks import TASKS
from cloud_assets.tasks.task import tasks_folder

_NAMES = {str(code): name for code, name in {**CLASS_NAMES, UNLABELLED: "unlabelled"}.items()}
Kind = Literal["segmentation", "classes", "coverage"]
_COMPONENT = "cloud_assets.orchestration.task_component.TaskComponent"
_SHIPPED_BANDS = ("red", "green", "blue", "nir")
_PATCH = 256
_FEWEST_GROUPS = 3
_FRACTIONS = (0.7, 0.15, 0.15)
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
    codes: Counter[str]  # codes or classes in the masks, and how often each occurs
    kind: Kind = "segmentation"  # what is going to be learnt
    attributes: tuple[str, ...] = ()  # where the classes of polygons come from, unless the data set says so

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
    def sizes(self) -> set[tuple[int, int]]:
        """Height and width of the scenes."""
        return {(grid.height, grid.width) for grid in (scene.grid() for scene in self.catalog)}

    def lines(self) -> list[str]:
        """What was found, for people."""
        low, high = min(self.sizes), max(self.sizes)
        size = f"{low[1]} x {low[0]}" + ("" if low == high else f" to {high[1]} x {high[0]}")
        found = classes_of(self.catalog)
        shares = ", ".join(f"{name} {share:.1f} %" for name, share in found.items())
        finer = self.kind == "segmentation" and not found.keys() <= {"clear", "thick cloud"}
        plain = self.kind == "classes" and found.keys() <= {"clear", "thick cloud"}
        legend = self.dataset.legend()
        names = {**CLASS_NAMES, UNLABELLED: "unlabelled"}
        told = {code: meaning(code, legend) for code in sorted(self.codes)}
        codes = ", ".join(f"{code} = {'not explained' if of is None else names[of]}" for code, of in told.items())
        groups = len({scene.group for scene in self.catalog})
        given = Counter(scene.split for scene in self.catalog)
        splits = "as given: " + ", ".join(f"{count} {name}" for name, count in sorted(given.items(), key=str))
        if None in given:
            parts = " : ".join(f"{100 * share:.0f}" for share in _FRACTIONS)
            splits = f"none given; groups are shared out {parts}, evenly by cloud cover"
        return [
            f"{len(self.catalog)} images with masks: {self.instrument}, {', '.join(self.bands)}, {size} pixels",
            f"masks: {codes}; {shares}",
            *(["thin cloud counts as cloud, shadow as clear (--kind classes: on their own)"] if finer else []),
            *(["thin cloud and shadow are not in the masks: nothing to learn for --kind classes"] if plain else []),
            *self.attributes,
            f"{groups} groups that a split must not cut (scenes by name, overlapping ground)"
            + (f": {len(self.catalog) / groups:.1f} images each" if groups < len(self.catalog) else ""),
            f"splits: {splits}",
            *self.catalog.notes,
            *(f"left out: {skipped}" for skipped in self.catalog.skipped),
        ]


def survey(dataset: LabelledScenes, cache: Path, kind: Kind = "segmentation") -> Survey:
    """Looks at every image and mask; codes that the data set does not explain are guessed where that is safe.

    The kind is masks of cloud, masks of all classes, or classes of cover. ``cache`` has converted scenes.

    Raises:
        DataNotFound: If there is no image with a mask.
        InvalidData: If the codes have to be explained, too many images are unusable, or a split is impossible.
    """
    folder = dataset.find_folder(Path())
    pairs, _, _ = dataset.pairs(folder)
    drawn, rastered = Counter[str](), Counter[str]()
    for mask in dict.fromkeys(pair.mask for pair in pairs):
        found = drawn if is_drawn(mask) else rastered
        with suppress(InvalidData):  # said when the pair is read
            found.update(mask_values(mask, dataset.attribute))
    codes = drawn + rastered
    if not dataset.codes and (guessed := _BINARY.get(frozenset(rastered))):
        dataset = dataset.model_copy(update={"codes": guessed})
    legend = dataset.legend()
    if unknown := sorted(code for code in codes if meaning(code, legend) is None):
        raise InvalidData(
            f"the masks hold {', '.join(sorted(codes))}; nothing explains {', '.join(unknown)}. Say what each means: "
            + " ".join(f"--code '{code}={_NAMES.get(code, 'thick cloud')}'" for code in unknown)
            + " (thick cloud, thin cloud, cloud shadow, clear or unlabelled); of numbers, if of any, of all."
        )
    catalog = dataset.catalog(Path(), cache)
    groups = {scene.group for scene in catalog}
    if len(groups) < _FEWEST_GROUPS:
        raise InvalidData(
            f"{folder}: the images are of {len(groups)} acquisition(s), at least {_FEWEST_GROUPS} are needed: "
            "training, validation and test must not share one. Add scenes, or say what belongs together "
            "(--group-pattern; '.+' takes each image for its own)."
        )
    polygons = sorted({pair.mask for pair in pairs if is_drawn(pair.mask)}) if dataset.attribute is None else []
    return Survey(dataset, catalog, codes, kind, tuple(dict.fromkeys(map(class_attribute, polygons)))[:5])


def check_name(name: str, *, force: bool = False) -> Path:
    """The file of a new task.

    Raises:
        InvalidRecipe: If the name cannot be a task's or is taken, or there is no folder for tasks.
    """
    if not name.isidentifier():
        raise InvalidRecipe(f"{name!r} cannot name a task: use letters, digits and underscores.")
    if name in TASKS:
        raise InvalidRecipe(f"there is a task {name!r} already; choose another name.")
    folder = tasks_folder()
    if folder is None:
        raise InvalidRecipe("results lie in an object store: set CLOUD_ASSETS_TASKS to a folder for tasks of your own.")
    path = folder / f"{name}.yaml"
    if path.exists() and not force:
        raise InvalidRecipe(f"{path} is there already: choose another name, or replace it (--force).")
    return path


def declaration(name: str, found: Survey, steps: int) -> dict[str, Any]:
    """The component's file for a task whose trainings have so many steps, as plain values."""
    optimisation = {"scheduler": "cosine", "steps": steps, "max_epochs": 1000, "patience": None}
    network = {"architecture": "unet", "width": 32}
    classes = "four" if found.kind == "classes" else "binary"
    variants: dict[str, dict[str, Any]]
    if found.kind == "coverage":
        recipe = {"network": {"backbone": "mobilenet"}, "optimisation": optimisation}
        variants = {"mobilenet": {"Classification": recipe}}
    elif INSTRUMENTS[found.instrument].unit != "reflectance":  # which is what clouds are simulated in
        recipe = {"network": network, "classes": classes, "normalisation": "standardise", "clip": [-50, 50]}
        variants = {"unet": {"Segmentation": {**recipe, "optimisation": optimisation}}}
    else:
        variants = {"unet": {"mixed_with_simulation": {"network": network, "classes": classes, "steps": steps}}}
        if found.bands == _SHIPPED_BANDS and found.kind == "segmentation":
            variants["unet_efficientnet_b2"] = {"from_simulation": {"steps": steps}}
    metric = {"segmentation": "iou", "classes": "miou", "coverage": "accuracy"}[found.kind]
    side = min(_PATCH, -(-max(max(size) for size in found.sizes) // 32) * 32)
    return {
        "type": _COMPONENT,
        "attributes": {
            "name": name,
            "title": f"{name.replace('_', ' ')}, learnt from labels of our own",
            "dataset": {"LabelledScenes": found.dataset.model_dump(mode="json", exclude_defaults=True)},
            "patches": {"bands": list(found.bands), "size": side, "minimum_valid": 0.2},
            "split": {"by": "group", "stratify": "cloud_percentage", "classes": classes, "fractions": [*_FRACTIONS]},
            "variants": variants,
            "evaluation": {},
            "gate": {"metric": metric, "mode": "max"},
        },
    }


def write_task(name: str, found: Survey, steps: int, *, force: bool = False) -> Path:
    """Writes the declaration into the folder of own tasks and returns the file.

    Raises:
        InvalidRecipe: If the name cannot be a task's or is taken, or there is no folder for tasks.
    """
    content = declaration(name, found, steps)
    path = check_name(name, force=force)
    with atomic_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8")
    return path
