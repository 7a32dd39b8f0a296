"""38-Cloud: 17,601 patches of 38 Landsat 8 scenes with expert cloud masks.

Mohajerani & Saeedi, "Cloud-Net: an end-to-end cloud detection algorithm for Landsat 8 imagery", IGARSS 2019,
https://arxiv.org/abs/1901.10077; layout: https://github.com/SorourMo/38-Cloud-A-Cloud-Segmentation-Dataset
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from cloud_assets.bands import CLEAR, THICK_CLOUD
from cloud_assets.datasets.dataset import Collection, Dataset, check_all
from cloud_assets.datasets.rasters import RasterHeader, combined_digest, file_digest, read_header
from cloud_assets.datasets.scene import RasterBand, Scene, read_truth
from cloud_assets.errors import InvalidData

_COLOURS: Mapping[str, str] = {"red": "B4", "green": "B3", "blue": "B2", "nir": "B5"}
_CODES: Mapping[int, int] = {0: CLEAR, 1: THICK_CLOUD, 255: THICK_CLOUD}
"""Thin cloud counts as cloud in this data set; the masks of whole scenes come with 1 instead of 255."""
_INSTRUMENTS: Mapping[str, str] = {"uint16": "landsat8_l1", "uint8": "landsat8_l1_8bit"}
_NAME = re.compile(r"patch_(?P<index>\d+)_(?P<row>\d+)_by_(?P<column>\d+)_(?P<scene>.+)")
_SUFFIX = ".TIF"


@dataclass(frozen=True)
class _Half:
    """The training or the test half of the data set: its files by band and patch name."""

    folder: Path
    is_test: bool

    @property
    def prefix(self) -> str:
        return "test" if self.is_test else "train"

    @cached_property
    def bands(self) -> Mapping[str, Mapping[str, Path]]:
        return {colour: _files(self.folder / f"{self.prefix}_{colour}", colour) for colour in _COLOURS}

    @cached_property
    def truths(self) -> Mapping[str, Path]:
        return _files(self.folder / "train_gt", "gt")

    @cached_property
    def names(self) -> list[str]:
        return sorted(set().union(*self.bands.values(), self.truths))

    def scene_mask(self, name: str) -> Path:
        scene = match["scene"] if (match := _NAME.fullmatch(name)) else name
        return self.folder / "Entire_scene_gts" / f"edited_corrected_gts_{scene}{_SUFFIX}"

    def scene(self, name: str) -> Scene:
        """Checks the files of a patch."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise InvalidData("the name is not patch_<index>_<row>_by_<column>_<scene>")
        paths = {colour: str(files[name]) for colour, files in self.bands.items() if name in files}
        absent = [f"{self.prefix}_{colour}" for colour in _COLOURS if colour not in paths]
        if not self.is_test and name not in self.truths:
            absent.append("train_gt")
        if absent:
            raise InvalidData(f"there is no file in {', '.join(absent)}")
        header = _common_header({path: read_header(path) for path in paths.values()})
        row, column = int(match["row"]), int(match["column"])
        if self.is_test:
            truth = RasterBand(str(self.scene_mask(name)))
            mask, mask_digest = _scene_mask(truth.path, Path(truth.path).stat().st_mtime_ns)
            truth = RasterBand(truth.path, window=_window_in_scene(row, column, header, mask))
        else:
            truth = RasterBand(str(self.truths[name]))
            mask, mask_digest = read_header(truth.path), file_digest(truth.path)
            if (mask.height, mask.width) != (header.height, header.width):
                raise InvalidData(
                    f"{truth.path} has {mask.height}x{mask.width} pixels, the image has {header.height}x{header.width}"
                )
        read_truth(truth, _CODES)
        return Scene(
            scene_id=name,
            group=match["scene"],
            instrument=_INSTRUMENTS[header.dtype],
            bands={_COLOURS[colour]: RasterBand(path) for colour, path in paths.items()},
            truth=truth,
            truth_codes=_CODES,
            split="test" if self.is_test else None,
            label_type="high",
            attributes={"patch_row": float(row), "patch_column": float(column)},
            content_hash=combined_digest([*(file_digest(path) for path in paths.values()), mask_digest]),
        )


class Cloud38(Dataset):
    """38-Cloud as its two archives unpack: ``38-Cloud_training/`` and, if wanted, ``38-Cloud_test/``."""

    folder: ClassVar[str] = "38-cloud"
    title: ClassVar[str] = "38-Cloud"
    how_to_get: ClassVar[str] = (
        "Download the archives 38-Cloud_training and 38-Cloud_test (the page is linked from "
        "https://github.com/SorourMo/38-Cloud-A-Cloud-Segmentation-Dataset) and unpack both there."
    )

    nonempty_only: bool = Field(
        False, description="Take only the training patches that training_patches_38-cloud_nonempty.csv lists."
    )
    use_test: bool = Field(True, description="Take the test scenes too, with truth cut out of the scenes' masks.")

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        """Finds the patches of both halves; a test patch without a mask of its scene is left out."""
        training, test = _Half(folder / "38-Cloud_training", False), _Half(folder / "38-Cloud_test", True)
        if not training.folder.is_dir():
            raise self.missing(folder, "38-Cloud_training/ is not in")
        found = self._collect_half(training, progress)
        if self.use_test and test.folder.is_dir():
            rest = self._collect_half(test, progress)
            found = Collection(found.scenes + rest.scenes, found.skipped + rest.skipped, found.notes + rest.notes)
        _refuse_mixed_types(found.scenes)
        return found

    def _collect_half(self, half: _Half, progress: bool) -> Collection:
        filtered = self.nonempty_only and not half.is_test
        wanted = f"{'test' if half.is_test else 'training'}_patches_38-{'cloud_nonempty' if filtered else 'Cloud'}.csv"
        path, names, notes = half.folder / wanted, half.names, []
        if path.is_file():
            with path.open(newline="", encoding="utf-8-sig") as stream:
                listed = [row[0].strip() for row in csv.reader(stream) if row and row[0].strip() not in ("", "name")]
            names = list(dict.fromkeys(listed))
            notes = [f"Patches of {half.folder.name} are those of {wanted}."]
            if extra := len(set(half.names) - set(names)):
                notes.append(f"{extra} patches in {half.folder.name} are not in its list and were left out.")
        elif filtered:
            raise InvalidData(f"nonempty_only needs the list {path}. Put it there or switch the option off.")
        if half.is_test:
            has_mask = {name: half.scene_mask(name).is_file() for name in names}
            names = [name for name in names if has_mask[name]]
            if len(names) < len(has_mask):
                notes.append(f"{len(has_mask) - len(names)} test patches have no mask in Entire_scene_gts: left out.")
            notes.append("The official test scenes are the test split.")
        scenes, skipped = check_all(names, half.scene, str, f"{self.title} ({half.prefix})", progress)
        return Collection(scenes, skipped, notes)


def _files(folder: Path, colour: str) -> dict[str, Path]:
    """Files of one band by patch name."""
    found = (path for path in folder.glob(f"{colour}_*") if path.suffix.upper() == _SUFFIX)
    return {path.stem.removeprefix(f"{colour}_"): path for path in found}


def _common_header(headers: Mapping[str, RasterHeader]) -> RasterHeader:
    """The header that the four bands of a patch share."""
    first = next(iter(headers.values()))
    for path, header in headers.items():
        if header.dtype not in _INSTRUMENTS:
            raise InvalidData(f"{path} holds {header.dtype}; 38-Cloud's bands are uint16, or uint8 in rescaled copies")
        if header.dtype != first.dtype:
            raise InvalidData(f"{path} holds {header.dtype}, {next(iter(headers))} holds {first.dtype}")
        if (header.height, header.width) != (first.height, first.width):
            raise InvalidData(f"{path} has {header.height}x{header.width} pixels, others {first.height}x{first.width}")
    return first


@lru_cache(maxsize=64)
def _scene_mask(path: str, changed: int) -> tuple[RasterHeader, str]:
    """Header and hash of a scene's mask, which hundreds of patches share; ``changed`` tells apart its versions."""
    return read_header(path), file_digest(path)


def _window_in_scene(row: int, column: int, patch: RasterHeader, scene: RasterHeader) -> tuple[int, int, int, int]:
    """(first column, first row, width, height) of a patch in its scene; it reaches past the scene at its edges.

    Scenes were zero-padded around their centre to whole patches before cutting; rows and columns count from 1.
    """
    rows, columns = -(-scene.height // patch.height), -(-scene.width // patch.width)
    if row > rows or column > columns:
        raise InvalidData(f"row {row}, column {column} lies outside its scene of {rows} x {columns} patches")
    top = (rows * patch.height - scene.height) // 2
    left = (columns * patch.width - scene.width) // 2
    return (column - 1) * patch.width - left, (row - 1) * patch.height - top, patch.width, patch.height


def _refuse_mixed_types(scenes: list[Scene]) -> None:
    """Patches of 8 and of 16 bits side by side cannot be scaled alike."""
    counts = Counter(scene.instrument for scene in scenes)
    if len(counts) < 2:
        return
    types = {instrument: dtype for dtype, instrument in _INSTRUMENTS.items()}
    rare = counts.most_common()[-1][0]
    files = [next(iter(scene.bands.values())).path for scene in scenes if scene.instrument == rare]
    raise InvalidData(
        f"38-Cloud mixes data types: {', '.join(f'{number} x {types[name]}' for name, number in counts.items())}. "
        f"The {types[rare]} ones are: {', '.join(files[:10])}{' …' if len(files) > 10 else ''}. Keep one kind."
    )
