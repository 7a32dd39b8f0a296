"""Cuts the scenes of a catalogue into patches, streaming from files to the patch store."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS, UNLABELLED, Instrument
from cloud_assets.datasets.scene import Grid, Scene, SceneCatalog
from cloud_assets.errors import (
    CloudAssetsError,
    InvalidData,
    InvalidRecipe,
    NoUsablePatches,
    UnknownBand,
    too_many_skipped,
)
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.store import PatchStore, Role
from cloud_assets.patches.store_writer import Patch, PatchStoreWriter, StoreOrigin, role_of
from cloud_assets.progress import progress_bar

_FATAL = (InvalidRecipe, UnknownBand)  # errors that concern every scene alike; all others leave out one scene
Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class _ReadScene:
    """A scene in memory."""

    scene: Scene
    grid: Grid
    images: dict[str, npt.NDArray[Any]]
    valid: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.uint8] | None


def cut_patches(
    catalog: SceneCatalog,
    recipe: PatchRecipe,
    directory: Path,
    *,
    progress: bool = True,
    max_skipped_fraction: float = 0.05,
    threads: int = 2,
) -> PatchStore:
    """Cuts scenes into a grid of patches, a store in ``directory``.

    Windows start at a scene's first pixel; the last ones are filled up with nodata (255 in the mask). Scenes are read a
    few ahead of the writer, so memory holds at most ``threads + 3`` scenes however large the data set is. Until the
    last patch is written, an older store stays as it is. A share ``max_skipped_fraction`` of the scenes may be
    unreadable; they are listed in the store's manifest.

    Raises:
        InvalidData: If more scenes are unreadable than tolerated; if data types, instruments or sizes differ.
        InvalidRecipe: If a role's bands come from several instruments.
        NoUsablePatches: If there is no scene, or every patch is blank.
        UnknownBand: If the recipe names a band that the instrument does not have.
        StorageFull: If the disk is full.
    """
    skipped = [(item.item, item.reason) for item in catalog.skipped]
    origin = StoreOrigin(catalog.dataset, catalog.data_version, catalog.is_synthetic, tuple(catalog.notes), skipped)
    has_masks = any(scene.truth is not None for scene in catalog.scenes)
    with closing(_readable(catalog, recipe, skipped, max_skipped_fraction, threads, progress)) as scenes:
        first = next(scenes, None)
        if first is None:
            raise NoUsablePatches(f"{catalog.dataset} has no readable scene: look at what was skipped: {skipped[:5]}.")
        roles = {}
        for role, bands in recipe.role_bands.items():
            image = first.images[role]
            size = image.shape[1:] if recipe.size is None else (recipe.size, recipe.size)
            roles[role] = role_of(_instrument(first.scene, bands).name, bands, image.dtype, (len(bands), *size))
        with PatchStoreWriter(directory, recipe, roles, has_masks, origin) as writer:
            for read in chain((first,), scenes):
                _check_alike(read, roles, recipe)
                for patch in _windows(read, recipe):
                    writer.append(patch)
    return PatchStore.open(directory)


def _readable(
    catalog: SceneCatalog, recipe: PatchRecipe, skipped: Skipped, tolerance: float, threads: int, progress: bool
) -> Generator[_ReadScene, None, None]:
    """Yields the scenes in the catalogue's order, reading a few ahead; lists the unreadable ones in ``skipped``."""
    total = len(catalog.scenes) + len(catalog.skipped)
    waiting = iter(catalog.scenes)
    ahead: deque[tuple[Scene, Future[_ReadScene]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reading")
    bar = progress_bar("Cutting patches", len(catalog.scenes), "scenes", progress)
    try:
        ahead.extend((scene, pool.submit(_read, scene, recipe)) for scene in islice(waiting, threads + 1))
        while ahead:
            scene, future = ahead.popleft()
            try:
                read = future.result()
            except _FATAL:
                raise
            except CloudAssetsError as error:
                skipped.append((scene.scene_id, str(error)))
                if len(skipped) > tolerance * total:
                    listed = [f"{item}: {reason}" for item, reason in skipped]
                    raise too_many_skipped(catalog.dataset, listed, total, tolerance) from error
            else:
                yield read
            ahead.extend((scene, pool.submit(_read, scene, recipe)) for scene in islice(waiting, 1))
            bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()


def _read(scene: Scene, recipe: PatchRecipe) -> _ReadScene:
    target = (recipe.size, recipe.size) if recipe.resize and recipe.size else None
    images: dict[str, npt.NDArray[Any]] = {}
    valid: list[npt.NDArray[np.bool_]] = []
    sizes: dict[str, tuple[int, ...]] = {}
    for role, bands in recipe.role_bands.items():
        instrument = _instrument(scene, bands)
        image = scene.read(bands)
        sizes[role] = image.shape[1:]
        if target:
            image = resize(image, instrument.valid(image), target, instrument.nodata or 0.0)
        images[role] = image
        valid.append(instrument.valid(image))
    mask = None if scene.truth is None else scene.read_truth()
    if mask is not None:
        sizes["truth"] = mask.shape
    if len(set(sizes.values())) > 1:
        sizes_found = "; ".join(f"{k}: {v}" for k, v in sizes.items())
        raise InvalidData(f"scene {scene.scene_id}: sizes differ, {sizes_found}. Make them alike, or leave it out.")
    grid = scene.grid()
    if target:
        grid = grid.scaled(*target, grid.height / target[0], grid.width / target[1])
        mask = None if mask is None else resize_codes(mask, target)
    return _ReadScene(scene, grid, images, np.logical_and.reduce(valid), mask)


def _instrument(scene: Scene, bands: Sequence[str]) -> Instrument:
    instruments = {scene.band_instrument(scene.resolve(band)).name for band in bands}
    if len(instruments) > 1:
        raise InvalidRecipe(
            f"the bands {', '.join(bands)} of scene {scene.scene_id} come from {' and '.join(sorted(instruments))}: "
            "their digital numbers differ in meaning, so give each instrument a role of its own in the patch recipe."
        )
    return INSTRUMENTS[instruments.pop()]


def _check_alike(read: _ReadScene, roles: Mapping[str, Role], recipe: PatchRecipe) -> None:
    """Raises :class:`InvalidData` if a scene does not fit the store that the first scene founded."""
    for name, role in roles.items():
        image, instrument = read.images[name], _instrument(read.scene, role.bands).name
        if (str(image.dtype), instrument) != (role.dtype, role.instrument):
            raise InvalidData(
                f"scene {read.scene.scene_id} has {name} as {image.dtype} of {instrument}, the scenes before it as "
                f"{role.dtype} of {role.instrument}: their digital numbers mean different things. Part the data set."
            )
        if recipe.size is None and image.shape != role.shape:
            raise InvalidData(
                f"scene {read.scene.scene_id} has {image.shape[1:]} pixels, the scenes before it {role.shape[1:]}: "
                "set a size in the patch recipe."
            )


def _windows(read: _ReadScene, recipe: PatchRecipe) -> Iterator[Patch]:
    """Cuts a scene into patches; those at its far edges are filled up."""
    height, width = read.valid.shape
    size = (height, width) if recipe.size is None else (recipe.size, recipe.size)
    fills = {role: _instrument(read.scene, bands).nodata or 0.0 for role, bands in recipe.role_bands.items()}
    is_whole = height <= size[0] and width <= size[1]
    scene = read.scene
    for row in range(0, height, size[0]):
        for col in range(0, width, size[1]):
            inside = (slice(row, row + size[0]), slice(col, col + size[1]))
            yield Patch(
                patch_id=scene.scene_id if is_whole else f"{scene.scene_id}_{row}_{col}",
                scene_id=scene.scene_id,
                group=scene.group,
                images={role: _filled(image[:, *inside], size, fills[role]) for role, image in read.images.items()},
                valid=_filled(read.valid[inside], size, False),
                mask=None if read.mask is None else _filled(read.mask[inside], size, UNLABELLED),
                row=row,
                col=col,
                crs=read.grid.crs,
                transform=read.grid.part(row, col, *size).transform,
                official_split=scene.split,
                label_type=scene.label_type,
                label=scene.label,
                attributes=scene.attributes,
                source=next(iter(scene.bands.values())).path,
            )


def _filled(array: npt.NDArray[Any], size: tuple[int, int], value: float) -> npt.NDArray[Any]:
    """Pads the last two axes at their ends."""
    if array.shape[-2:] == size:
        return array
    padding = [(0, 0)] * (array.ndim - 2) + [(0, size[0] - array.shape[-2]), (0, size[1] - array.shape[-1])]
    return np.pad(array, padding, constant_values=value)


def resize(
    image: npt.NDArray[Any], valid: npt.NDArray[np.bool_], size: tuple[int, int], nodata: float
) -> npt.NDArray[Any]:
    """Resizes an image (C, H, W) linearly, averaging over the source pixels of each target pixel when it shrinks.

    Target pixels most of whose source pixels are not ``valid`` (H, W) become ``nodata``; the data type stays.
    """
    down, right = _weights(image.shape[-2], size[0]), _weights(image.shape[-1], size[1])
    weight = down @ valid.astype(np.float32) @ right.T
    there = weight >= 0.5
    resized = down @ np.where(valid, image, 0).astype(np.float32) @ right.T
    resized /= np.maximum(weight, 1e-6)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        resized = np.clip(np.rint(resized), limits.min, limits.max)
    return np.where(there, resized, nodata).astype(image.dtype)


def resize_codes(codes: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resizes a mask (H, W) to the nearest pixels, because codes cannot be averaged."""
    rows, cols = (
        ((np.arange(target) + 0.5) * (source / target)).astype(int)
        for source, target in zip(codes.shape, size, strict=True)
    )
    return codes[np.ix_(rows, cols)]


@lru_cache(maxsize=32)
def _weights(source: int, target: int) -> npt.NDArray[np.float32]:
    """(target, source) weights of a triangle filter as wide as a target pixel, rows adding up to 1."""
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(source)[None] + 0.5 - centres) / max(scale, 1.0)
    weights = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
