"""Writes a patch store patch by patch, with memory that does not grow with the number of patches.

Rows are appended to the ``.npy`` files and the headers are set right at the end. (Mapping a file of the largest
possible size instead would crash the process with a bus error when the disk runs full; an append raises an error.)
"""

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS, UNLABELLED
from cloud_assets.errors import InvalidData, NoUsablePatches, StorageFull
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.store import COVERAGE_NAMES, Role, StoreManifest
from cloud_assets.storage import atomic_directory

if TYPE_CHECKING:
    import pyarrow as pa

_TEXT = ("patch_id", "scene_id", "group", "official_split", "label_type", "label", "crs")
_PLACE = ("row", "col")
_ROWS_A_GROUP = 1024
_LISTED_BLANK_PATCHES = 100


@dataclass(frozen=True)
class Patch:
    """One patch on its way into a store."""

    patch_id: str  # unique
    scene_id: str  # the scene it was cut from
    group: str  # what a split must not cut
    images: Mapping[str, npt.NDArray[Any]]  # (C, H, W) digital numbers by role
    valid: npt.NDArray[np.bool_]  # (H, W), False where any role has no data
    mask: npt.NDArray[np.uint8] | None = None  # (H, W) cloud codes, or None without truth
    row: int = 0  # first row and column of the patch in its scene
    col: int = 0
    crs: str | None = None
    transform: tuple[float, ...] | None = None  # affine (a, b, c, d, e, f) of the patch
    official_split: str | None = None  # train, validation or test as published
    label_type: str | None = None  # how the truth was made (high, scribble, …)
    label: str | None = None  # of the whole image
    attributes: Mapping[str, str | float] = field(default_factory=dict)  # what else the data set tells about the scene
    source: str = ""  # file that the pixels come from


def index_schema() -> "pa.Schema":
    """Column names and types of ``index.parquet``."""
    import pyarrow as pa

    shares = ("valid_fraction", *(f"{name}_percentage" for name in (*COVERAGE_NAMES.values(), "cloud")))
    return pa.schema(
        [(name, pa.string()) for name in (*_TEXT, "content_hash", "attributes", "source")]
        + [(name, pa.int32()) for name in _PLACE]
        + [("transform", pa.list_(pa.float64()))]
        + [(name, pa.float64()) for name in shares]
    )


def coverage(mask: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Percentage of each class over the labelled pixels of a mask (H, W) of cloud codes, 255 unlabelled or nodata.

    Returns:
        ``clear_percentage``, ``thick_percentage``, ``thin_percentage``, ``cloud_shadow_percentage`` and
        ``cloud_percentage`` (thick and thin together), each in [0, 100], or NaN if nothing is labelled.
    """
    counts = {code: np.count_nonzero(mask == code) for code in COVERAGE_NAMES}
    labelled = sum(counts.values())
    shares = {name: 100 * counts[code] / labelled if labelled else np.nan for code, name in COVERAGE_NAMES.items()}
    shares["cloud"] = shares["thick"] + shares["thin"]
    return {f"{name}_percentage": share for name, share in shares.items()}


@dataclass(frozen=True)
class StoreOrigin:
    """What the manifest says about where a store's patches come from."""

    dataset: str
    catalog_version: str
    is_synthetic: bool
    notes: tuple[str, ...] = ()
    skipped: list[tuple[str, str]] = field(default_factory=list)


class PatchStoreWriter:
    """Context manager that appends patches to a new store and puts it in place when the block ends without an error.

    An older store in ``directory`` stays until then. Where ``has_masks``, every patch gets a row in ``masks.npy``. The
    list of skipped scenes in ``origin`` may grow while writing.
    """

    def __init__(
        self, directory: Path, recipe: PatchRecipe, roles: Mapping[str, Role], has_masks: bool, origin: StoreOrigin
    ) -> None:
        self.directory, self.recipe, self.roles = directory, recipe, roles
        self.has_masks, self.origin = has_masks, origin
        self.count = 0
        self._blank: list[str] = []
        self._blank_count = 0
        self._rows: list[dict[str, Any]] = []
        self._version = blake2b(recipe.model_dump_json().encode(), digest_size=16)
        for name, role in roles.items():
            self._version.update(f"{name}={role.model_dump_json()}\n".encode())
        self._arrays = {name: (np.dtype(role.dtype), tuple(role.shape)) for name, role in roles.items()}
        if has_masks:
            self._arrays["masks"] = (np.dtype(np.uint8), next(iter(roles.values())).shape[1:])

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq

        # Closes the files before the folder is put in place.
        self._open = ExitStack()
        self._folder = self._open.enter_context(atomic_directory(self.directory))
        self._files: dict[str, IO[bytes]] = {
            name: self._open.enter_context((self._folder / f"{name}.npy").open("wb")) for name in self._arrays
        }
        for name in self._arrays:
            self._write_header(name)
        self._index = self._open.enter_context(pq.ParquetWriter(self._folder / "index.parquet", index_schema()))
        return self

    def append(self, patch: Patch) -> bool:
        """Adds a patch whose arrays have the shapes and data types of the roles; tells whether.

        Blank ones, with too few valid pixels, are counted in the manifest instead.

        Raises:
            InvalidData: If an array has another shape or data type than its role.
            StorageFull: If the disk is full.
        """
        valid_fraction = float(patch.valid.mean())
        if valid_fraction < self.recipe.minimum_valid or valid_fraction == 0:
            self._blank_count += 1
            if len(self._blank) < _LISTED_BLANK_PATCHES:
                self._blank.append(patch.patch_id)
            return False
        arrays: dict[str, npt.NDArray[Any]] = dict(patch.images)
        if self.has_masks:
            mask = np.full(patch.valid.shape, UNLABELLED, np.uint8) if patch.mask is None else patch.mask
            arrays["masks"] = np.where(patch.valid, mask, np.uint8(UNLABELLED))
        content = blake2b(digest_size=16)
        with _told_when_full(self.directory):
            for name, (dtype, shape) in self._arrays.items():
                array = np.ascontiguousarray(arrays[name])
                if (array.dtype, array.shape) != (dtype, shape):
                    raise InvalidData(
                        f"patch {patch.patch_id}: {name} is {array.dtype} {array.shape}, earlier ones are {dtype} "
                        f"{shape}. A store holds one data type and one size: give the recipe a size, or part the data."
                    )
                content.update(array.data)
                self._files[name].write(array.data)
            row = {
                **{name: getattr(patch, name) for name in (*_TEXT, *_PLACE, "source", "transform")},
                "valid_fraction": valid_fraction,
                "content_hash": content.hexdigest(),
                "attributes": json.dumps(dict(patch.attributes)),
                **coverage(arrays.get("masks", np.full(1, UNLABELLED, np.uint8))),
            }
            self._rows.append(row)
            if len(self._rows) >= _ROWS_A_GROUP:
                self._flush_rows()
        named = ("patch_id", "content_hash", "group", "official_split", "label", "label_type")
        self._version.update(("|".join(str(row[key]) for key in named) + "\n").encode())
        self.count += 1
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with _told_when_full(self.directory), self._open:
            self._finish()

    def _finish(self) -> None:
        if self.count == 0:
            raise NoUsablePatches(
                f"no patch of {self.origin.dataset} is left: {self._blank_count} held less than "
                f"{self.recipe.minimum_valid:.0%} valid pixels and {len(self.origin.skipped)} scenes were unreadable. "
                "Look at the files, or lower minimum_valid."
            )
        self._flush_rows()
        for name, file in self._files.items():
            file.seek(0)
            self._write_header(name)
        manifest = StoreManifest(
            **vars(self.origin),
            count=self.count,
            roles=dict(self.roles),
            has_masks=self.has_masks,
            recipe=self.recipe,
            dropped_blank=self._blank_count,
            dropped_blank_patches=tuple(self._blank),
            data_version=self._version.hexdigest(),
        )
        text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
        (self._folder / "store.json").write_text(text, encoding="utf-8")  # the last file of a store

    def _write_header(self, name: str) -> None:
        # NumPy pads headers of version 1.0 so that the first axis can grow to any length without moving the data.
        dtype, shape = self._arrays[name]
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (self.count, *shape)}
        np.lib.format.write_array_header_1_0(self._files[name], header)

    def _flush_rows(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._index.write_table(pa.Table.from_pylist(self._rows, schema=index_schema()))
            self._rows.clear()


@contextmanager
def _told_when_full(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StorageFull(
            errno.ENOSPC,
            f"the disk is full while patches are written to {directory}; free some space and run again "
            "(the old patches are kept)",
        ) from error


def role_of(instrument: str, bands: tuple[str, ...], dtype: npt.DTypeLike, shape: Sequence[int]) -> Role:
    """Describes an array of an instrument's digital numbers, (C, H, W) a patch."""
    nodata = INSTRUMENTS[instrument].nodata
    known = None if nodata is None or np.isnan(nodata) else float(nodata)
    channels, height, width = (int(length) for length in shape)
    return Role(
        bands=bands, instrument=instrument, nodata=known, dtype=str(np.dtype(dtype)), shape=(channels, height, width)
    )
