"""SEN12MS: co-registered Sentinel-1 and Sentinel-2 patches of the whole world in four seasons.

Schmitt et al., "SEN12MS - a curated dataset of georeferenced multi-spectral Sentinel-1/2 imagery for deep learning and
data fusion", ISPRS Annals 2019, https://arxiv.org/abs/1906.07789; archives: https://mediatum.ub.tum.de/1474000
"""

import errno
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.datasets.dataset import Collection, Dataset, check_all, writable_folder
from cloud_assets.datasets.rasters import combined_digest, file_digest, read_bands, read_header
from cloud_assets.datasets.scene import Scene, bands_of_file
from cloud_assets.errors import InvalidData, StorageFull
from cloud_assets.progress import progress_bar
from cloud_assets.storage import atomic_file

Season = Literal["spring", "summer", "fall", "winter"]

_FILE = re.compile(r"(?P<season>ROIs\d+_[a-z]+)_(?P<sensor>s1|s2)_(?P<scene>\d+)_p(?P<patch>\d+)")
_ARCHIVE = re.compile(r"(?P<season>ROIs\d+_(?P<name>[a-z]+))_(?P<sensor>s1|s2)\.tar\.gz")
_KNOWN_DAMAGED = {"ROIs1868_summer_146_p202"}
"""Damaged in the published archives: the radar image of this pair is no image of the place."""
_STAMP = ".unpacking.json"
_BANDS = {"s1": INSTRUMENTS["sentinel1_grd"].names, "s2": INSTRUMENTS["sentinel2_l1c"].names}
_DTYPES = {"s1": ("float32", "float64"), "s2": ("uint16",)}


@dataclass(frozen=True)
class _Pair:
    """The two files of one patch."""

    name: str  # such as ``ROIs2017_winter_112_p797``
    season: str
    scene: str
    s1: Path | None = None
    s2: Path | None = None


class Sen12MS(Dataset):
    """SEN12MS as its archives (one a season and sensor) or as the folders they unpack to; SEN12MS-CR alike."""

    folder: ClassVar[str] = "sen12ms"
    title: ClassVar[str] = "SEN12MS"
    how_to_get: ClassVar[str] = (
        "Download the archives ROIs*_s1.tar.gz and ROIs*_s2.tar.gz of at least one season from "
        "https://mediatum.ub.tum.de/1474000 into it."
    )

    seasons: tuple[Season, ...] = Field(
        ("spring", "summer", "fall", "winter"), description="Seasons to use, of those that are there."
    )
    max_pairs: Annotated[int, Field(ge=1)] | None = Field(None, description="How many pairs to choose; empty: all.")
    seed: int = Field(0, description="Another seed chooses other pairs.")
    holdout_list: str | None = Field(
        None,
        description="Text file (path, or name in the data set's folder) with one patch name a line: the test split.",
    )

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        """Unpacks archives where needed, pairs files by name, and checks each pair's pixels."""
        unpacked, notes = self._unpack(folder, cache, progress)
        pairs = self._pairs([folder, *unpacked])
        if not pairs:
            raise self.missing(folder, f"there is neither an archive nor a patch of {' or '.join(self.seasons)} in")
        if self.max_pairs is not None and self.max_pairs < len(pairs):
            notes.append(f"{self.max_pairs:,} of {len(pairs):,} pairs chosen with seed {self.seed}.")

            def preference(pair: _Pair) -> bytes:
                return blake2b(f"{self.seed} {pair.name}".encode(), digest_size=8).digest()

            pairs = sorted(pairs, key=preference)[: self.max_pairs]
        held_out = self._held_out(folder)
        scenes, skipped = check_all(
            pairs,
            lambda pair: _check_pair(pair, "test" if pair.name in held_out else None),
            lambda pair: pair.name,
            self.title,
            progress,
        )
        return Collection(scenes, skipped, notes)

    def _unpack(self, folder: Path, cache: Path, progress: bool) -> tuple[list[Path], list[str]]:
        """Unpacks the archives whose files do not lie beside them yet; returns the folders and notes."""
        targets, notes = [], []
        there = {(match["season"], match["sensor"]) for path in _tree(folder) if (match := _FILE.fullmatch(path.stem))}
        for archive in sorted(folder.glob("*.tar.gz")):
            match = _ARCHIVE.fullmatch(archive.name)
            if match is None or match["name"] not in self.seasons:
                notes.append(f"{archive.name} is not used.")
            elif (match["season"], match["sensor"]) in there:
                notes.append(f"{archive.name} was unpacked beside it; those files are used.")
            else:
                place = writable_folder([cache / self.folder / ".unpacked", folder / ".unpacked"], "unpacked archives")
                targets.append(place / archive.name.removesuffix(".tar.gz"))
                unpack(archive, targets[-1], progress)
        return targets, notes

    def _pairs(self, folders: list[Path]) -> list[_Pair]:
        files: dict[tuple[str, str, str], dict[str, Path]] = {}
        for path in (path for folder in folders for path in _tree(folder)):
            match = _FILE.fullmatch(path.stem)
            if match is not None and match["season"].rsplit("_", 1)[-1] in self.seasons:
                name = f"{match['season']}_{match['scene']}_p{match['patch']}"
                files.setdefault((name, match["season"], match["scene"]), {}).setdefault(match["sensor"], path)
        return [_Pair(*names, s1=sensors.get("s1"), s2=sensors.get("s2")) for names, sensors in sorted(files.items())]

    def _held_out(self, folder: Path) -> set[str]:
        if self.holdout_list is None:
            return set()
        path = folder / self.holdout_list
        if not path.is_file():
            raise InvalidData(f"The hold-out list {path} is not there. Correct holdout_list or leave it empty.")
        found = [_FILE.search(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = {f"{match['season']}_{match['scene']}_p{match['patch']}" for match in found if match}
        if not names:
            raise InvalidData(f"The hold-out list {path} names no patch: write such as ROIs2017_winter_s2_112_p797.")
        return names


def _tree(folder: Path) -> Iterator[Path]:
    """GeoTIFFs below a folder; hidden folders (where archives are unpacked to) are left out."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, file) for file in sorted(files) if file.lower().endswith((".tif", ".tiff")))


def _check_pair(pair: _Pair, split: str | None) -> Scene:
    if pair.name in _KNOWN_DAMAGED:
        raise InvalidData("the published radar file of this pair is damaged: leave it out")
    if pair.s1 is None or pair.s2 is None:
        there, absent = ("s2", "s1") if pair.s1 is None else ("s1", "s2")
        raise InvalidData(f"{pair.s1 or pair.s2} ({there}) has no {absent} partner")
    paths = {"s1": str(pair.s1), "s2": str(pair.s2)}
    places = []
    for sensor, path in paths.items():
        header = read_header(path)
        if header.count != len(_BANDS[sensor]):
            raise InvalidData(f"{path} has {header.count} band(s), {sensor} patches have {len(_BANDS[sensor])}")
        if header.dtype not in _DTYPES[sensor]:
            raise InvalidData(f"{path} holds {header.dtype}, {sensor} patches hold {_DTYPES[sensor][0]}")
        places.append((header.height, header.width, header.crs, header.transform))
    if places[0] != places[1]:
        raise InvalidData(f"{paths['s1']} and {paths['s2']} differ in size or georeference: {places[0]}, {places[1]}")
    power = read_bands(paths["s1"], (1, 2), None, None)
    if unusable := int((~np.isfinite(power)).sum()):
        raise InvalidData(f"{paths['s1']} holds {unusable} backscatter values that are NaN or infinite")
    if not power.any():
        raise InvalidData(f"{paths['s1']} is blank")
    if power.min() >= 0:
        # No place on Earth scatters back more than it receives in every pixel: positive throughout is not decibel.
        raise InvalidData(
            f"{paths['s1']} holds linear power (all values from {power.min():.3g} to {power.max():.3g} are positive), "
            "not decibel; convert it by 10 * log10"
        )
    if not read_bands(paths["s2"], range(1, len(_BANDS["s2"]) + 1), None, 0).any():
        raise InvalidData(f"{paths['s2']} is blank")
    return Scene(
        scene_id=pair.name,
        group=f"{pair.season}_{pair.scene}",
        instrument="sentinel2_l1c",
        bands={**bands_of_file(paths["s2"], _BANDS["s2"]), **bands_of_file(paths["s1"], _BANDS["s1"])},
        split=split,
        attributes={"season": pair.season.rsplit("_", 1)[-1]},
        content_hash=combined_digest([file_digest(path) for path in paths.values()]),
        band_instruments=dict.fromkeys(_BANDS["s1"], "sentinel1_grd"),
    )


def unpack(archive: Path, target: Path, progress: bool) -> None:
    """Unpacks a (compressed) tar archive into a folder of its own, going on where an earlier call was interrupted.

    Only plain files below the target are written, each whole or not at all. Files that are there already are kept if
    they come from this very archive (same size and time of change); those of an older version of it are removed first.

    Raises:
        InvalidData: A member is a link or a device, or would be written outside ``target``; nothing of it is written.
            The archive is truncated or no archive; the files before the damage stay.
        StorageFull: The disk is full; call it again when there is room.
    """
    stamp = target / _STAMP
    size, changed = archive.stat().st_size, archive.stat().st_mtime_ns
    begun = {"archive": archive.name, "size": size, "changed": changed, "is_complete": False}
    state = None
    with suppress(OSError, ValueError):
        state = json.loads(stamp.read_text(encoding="utf-8"))
    if state == {**begun, "is_complete": True}:
        return
    if state != begun:
        shutil.rmtree(target, ignore_errors=True)
        with atomic_file(stamp) as temporary:
            temporary.write_text(json.dumps(begun), encoding="utf-8")
    count = 0
    try:
        with (
            archive.open("rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*") as members,
            progress_bar(archive.name, size, "B", progress, unit_scale=True) as bar,
        ):
            for member in members:
                path, name = PurePosixPath(member.name), repr(member.name)
                if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in path.parts[0]:
                    raise InvalidData(f"{archive} would write {name} outside its folder. Do not use this archive.")
                if not (member.isfile() or member.isdir()):
                    kind = "a link" if member.issym() or member.islnk() else "a device"
                    raise InvalidData(f"{archive}: {name} is {kind}; only plain files are unpacked. Do not use it.")
                if member.isfile():
                    _write_member(members, member, target)
                    count += 1
                bar.update(stream.tell() - bar.n)
    except (tarfile.ReadError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageFull(f"{target}: the disk is full. Make room and unpack {archive} again.") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidData(
            f"{archive} is truncated or damaged after {count} file(s) ({error}). Download it again; "
            f"its published size should be larger than {size:,} bytes."
        ) from error
    with atomic_file(stamp) as temporary:
        temporary.write_text(json.dumps({**begun, "is_complete": True}), encoding="utf-8")


def _write_member(members: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    path = target / member.name
    if path.is_file() and path.stat().st_size == member.size:
        return
    content = members.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        shutil.copyfileobj(content, stream)
