"""Base class of data sets: folder, checks of all scenes, tolerance for unusable items, splits."""

import csv
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, Field

from cloud_assets.datasets.samples import SYNTHETIC_MARKER
from cloud_assets.datasets.samples.sample_writer import write_sample
from cloud_assets.datasets.scene import Scene, SceneCatalog, Skipped
from cloud_assets.errors import CloudAssetsError, DataNotFound, InvalidData, InvalidRecipe, too_many_skipped
from cloud_assets.progress import progress_bar

SPLIT_LIST = "splits.csv"
"""A table ``name,scene_id,split`` of this name in a data set's folder wins over any other split."""

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test",), "test"),
}

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Collection:
    """What a data set found in its folder."""

    scenes: list[Scene]
    skipped: list[Skipped]
    notes: list[str] = field(default_factory=list)


class Dataset(BaseModel, ABC, frozen=True, extra="forbid"):
    """A data set in its published layout. Fields are the options that a run's configuration may set."""

    folder: ClassVar[str]  # name of its folder below the data root
    title: ClassVar[str]  # how reports call it
    how_to_get: ClassVar[str]  # one sentence on where to download it and what to unpack

    max_skipped_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05,
        description="Share of the data set's items that may be unusable (damaged, incomplete) before it is an error.",
    )

    def catalog(self, data_root: Path, cache: Path | None = None, progress: bool = True) -> SceneCatalog:
        """Lists and checks every scene of the data set, in a reproducible order.

        Args:
            data_root: Folder that holds :attr:`folder`; it is only read, except where a data set says otherwise.
            cache: Folder for what has to be unpacked or downloaded; default: inside ``data_root``.
            progress: Whether to show progress bars.

        Raises:
            DataNotFound: The data set is not there; the message says what to set or to download.
            InvalidData: A part that belongs to it is missing. More are unusable than :attr:`max_skipped_fraction`.
        """
        folder = self.find_folder(data_root)
        found = self.collect(folder, cache or data_root, progress)
        total = len(found.scenes) + len(found.skipped)
        if len(found.skipped) > self.max_skipped_fraction * total:
            raise too_many_skipped(self.title, [str(item) for item in found.skipped], total, self.max_skipped_fraction)
        if not found.scenes:
            raise self.missing(folder)
        scenes, notes = apply_split_list(folder / SPLIT_LIST, found.scenes)
        return SceneCatalog(
            dataset=self.title,
            scenes=tuple(sorted(scenes, key=lambda scene: scene.scene_id)),
            skipped=tuple(found.skipped),
            is_synthetic=any((place / SYNTHETIC_MARKER).is_file() for place in (folder, data_root)),
            notes=(*found.notes, *notes),
        )

    @abstractmethod
    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        """Finds and checks the scenes in the data set's folder."""

    @property
    def place(self) -> Path | None:
        """The data set's folder where its settings name one, wherever the others are."""
        return None

    def find_folder(self, data_root: Path) -> Path:
        """The data set's folder."""
        folder = self.place or data_root / self.folder
        if not folder.is_dir():
            raise self.missing(folder)
        return folder

    def missing(self, folder: Path, what: str = "") -> DataNotFound:
        """The error for a data set that is not in its folder."""
        return DataNotFound(
            f"{self.title} was not found: {what or 'looked for its files in'} {folder.absolute()}. Set the environment "
            f"variable CLOUD_ASSETS_DATA to the folder that holds {self.folder}/ (unset it to work on the embedded "
            f"sample). {self.how_to_get}"
        )

    def write_sample(self, data_root: Path, scale: float = 1.0, seed: int = 0, progress: bool = True) -> None:
        """Simulates a small data set in the same layout in :attr:`folder` below ``data_root``.

        Its size is relative to the embedded sample's; same seed, same sample.
        """
        write_sample(data_root, datasets=(self.folder,), scale=scale, seed=seed, progress=progress)


def apply_split_list(path: Path, scenes: Iterable[Scene]) -> tuple[list[Scene], list[str]]:
    """Gives scenes the split (and the group) that a local list states, and notes on what the two do not share.

    The list may be absent; it has the columns ``name`` and ``split``, and maybe ``scene_id`` for the group. A name is a
    scene's id or the last part of it, with or without suffix.

    Raises:
        InvalidData: The list lacks a column or names a split that there is not.
    """
    scenes = list(scenes)
    if not path.is_file():
        return scenes, []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"name", "split"} <= rows[0].keys():
        raise InvalidData(f"{path} must be a table with the columns name,scene_id,split and at least one row.")
    unknown = sorted({row["split"] for row in rows} - _SPLITS.keys())
    if unknown:
        raise InvalidData(f"{path} names the split(s) {', '.join(unknown)}; there are train, validation and test.")
    listed = {row["name"]: row for row in rows}
    names, placed = [], []
    for scene in scenes:
        tail = PurePosixPath(scene.scene_id)
        name = next((name for name in (scene.scene_id, tail.name, tail.stem) if name in listed), None)
        row = {} if name is None else listed[name]
        split = _SPLITS[row["split"]] if row else scene.split
        names.append(name)
        placed.append(replace(scene, split=split, group=row.get("scene_id") or scene.group))
    notes = [f"Splits are those of {path.name}."]
    if unused := len(listed.keys() - set(names)):
        notes.append(f"{unused} of the {len(listed)} names in {path.name} have no scene.")
    if unplaced := names.count(None):
        notes.append(f"{unplaced} scenes are not in {path.name}.")
    return placed, notes


def official_split(name: str | None) -> str | None:
    """The project's name of a split ("val" and "validation" are one), or None for none or an unknown one."""
    return _SPLITS.get(name.lower()) if name else None


def writable_folder(candidates: Iterable[Path], purpose: str) -> Path:
    """The first folder that can be made and written to."""
    tried = list(candidates)
    for folder in tried:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise DataNotFound(
        f"There is no folder to write {purpose} to; tried {', '.join(map(str, tried))}. "
        "Set the environment variable CLOUD_ASSETS_HOME to a folder that may be written to."
    )


def named_group(name: str, pattern: str | re.Pattern[str] | None) -> str:
    """The acquisition that a name tells: the pattern's first group in it, or its whole match; else the name itself."""
    try:
        match = re.search(pattern, name) if pattern else None
    except re.error as error:
        raise InvalidRecipe(f"group_pattern {pattern!r} must be a regular expression: {error}.") from error
    return name if match is None else next((group for group in match.groups() if group), match[0])


def check_all(
    items: Sequence[Item], check: Callable[[Item], Result], name: Callable[[Item], str], what: str, progress: bool
) -> tuple[list[Result], list[Skipped]]:
    """Applies a check to every item in a pool of threads, in order, with a progress bar labelled ``what``.

    Returns:
        What the check found in the usable items; the names of those for which it raised a
        :class:`CloudAssetsError`, with that reason.
    """

    def attempt(item: Item) -> Result | Skipped:
        try:
            return check(item)
        except CloudAssetsError as error:
            return Skipped(name(item), str(error))

    workers = min(8, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        checked = pool.map(attempt, items)
        outcomes = list(progress_bar(what, len(items), "files", progress, iterable=checked))
    found = [outcome for outcome in outcomes if not isinstance(outcome, Skipped)]
    return found, [outcome for outcome in outcomes if isinstance(outcome, Skipped)]
