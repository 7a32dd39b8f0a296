"""Pictures sorted into two folders, ``noncloud/`` and ``cloud/``: the simplest labelled data set there is."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from cloud_assets.datasets.dataset import Collection, Dataset, check_all, named_group
from cloud_assets.datasets.rasters import file_digest, open_raster, read_header
from cloud_assets.datasets.scene import RasterBand, Scene
from cloud_assets.errors import InvalidData, NoUsablePatches

NORMAL, CLOUDY = "noncloud", "cloud"  # names of the two folders, and labels of the pictures in them

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_CHANNELS: Mapping[int, tuple[tuple[int, int, int], str]] = {
    1: ((1, 1, 1), "grey, used for red, green and blue"),
    2: ((1, 1, 1), "grey with transparency, which is dropped"),
    3: ((1, 2, 3), ""),
    4: ((1, 2, 3), "four channels, the fourth is dropped"),
}
"""Number of channels in a file: which of them are red, green and blue, and what to say about it."""


class ImageFolders(Dataset):
    """8-bit PNG, JPEG or TIFF pictures of any size; the folder's name is the label."""

    folder: ClassVar[str] = "cloud-anomaly"
    title: ClassVar[str] = "Cloud / non-cloud pictures"
    how_to_get: ClassVar[str] = (
        f"Put 8-bit RGB pictures without clouds into {NORMAL}/ and pictures with clouds into {CLOUDY}/ there."
    )

    max_skipped_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Share of the files that may be unusable (no pictures, truncated) before it is an error."
    )
    minimum_normal: Annotated[int, Field(ge=1)] = Field(
        10, description="Fewer usable cloud-free pictures than this are an error: normality cannot be learnt from them."
    )
    group_pattern: str | None = Field(
        None,
        description="Regular expression found in a file's name without suffix; its first group (or the whole match) "
        "names the acquisition that a split must not cut. Empty: each picture is its own.",
    )

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        """Decodes every file of both folders once."""
        named_group("", self.group_pattern)  # no regular expression is said once, not of every file
        files = [(label, file) for label in (NORMAL, CLOUDY) for file in self._files(folder, label)]
        scenes, skipped = check_all(
            files, lambda item: self._picture(folder, *item), lambda item: str(item[1]), self.title, progress
        )
        normal = sum(scene.label == NORMAL for scene in scenes)
        if normal < self.minimum_normal:
            reasons = "".join(f"\n  {item}" for item in skipped[:10])
            raise NoUsablePatches(
                f"{folder / NORMAL} holds {normal} usable picture(s) without clouds, at least {self.minimum_normal} "
                f"are needed. Add some, or lower minimum_normal if you know what you do.{reasons}"
            )
        remarks = Counter(scene.attributes["channels"] for scene in scenes if "channels" in scene.attributes)
        notes = [f"{count} pictures: {what}." for what, count in sorted(remarks.items())]
        if constant := [scene.scene_id for scene in scenes if "constant" in scene.attributes]:
            notes.append(f"Pictures of one single colour: {', '.join(constant[:10])}{' …' if constant[10:] else ''}.")
        return Collection(scenes, skipped, notes)

    def _files(self, folder: Path, label: str) -> list[Path]:
        place = folder / label
        files = sorted(
            file
            for file in place.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(place).parts)
        )
        if not files:
            raise self.missing(place, f"{label}/ is {'empty' if place.is_dir() else 'not there'}:")
        return files

    def _picture(self, folder: Path, label: str, file: Path) -> Scene:
        if file.suffix.lower() not in _SUFFIXES:
            raise InvalidData(f"{file.name} is no picture of a known kind: convert it to {', '.join(_SUFFIXES)}")
        path = str(file)
        header = read_header(path)
        if header.has_palette:
            raise InvalidData(f"{path} has a colour table: its values are no brightness. Convert it to RGB.")
        if header.dtype != "uint8":
            raise InvalidData(f"{path} holds {header.dtype}, pictures have 8 bits a channel. Convert it.")
        if header.count not in _CHANNELS:
            raise InvalidData(f"{path} has {header.count} channels; pictures must have one to four.")
        channels, remark = _CHANNELS[header.count]
        with open_raster(path) as raster:
            pixels = raster.read(sorted(set(channels)))  # a picture is decoded whole or not at all
        attributes: dict[str, str | float] = {"channels": remark} if remark else {}
        if (pixels == pixels[:, :1, :1]).all():
            attributes["constant"] = "all pixels are alike"
        return Scene(
            scene_id=str(file.relative_to(folder)),
            group=named_group(file.stem, self.group_pattern),
            instrument="rgb_8bit",
            bands={
                band: RasterBand(path, index) for band, index in zip(("red", "green", "blue"), channels, strict=True)
            },
            label=label,
            attributes=attributes,
            content_hash=file_digest(path),
        )
