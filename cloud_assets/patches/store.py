"""The patch store: one memory-mapped array a role, an index table, and a manifest.

A store is a folder::

    images.npy      (N, C, H, W) digital numbers in the scenes' own data type (one such file a role)
    masks.npy       (N, H, W) uint8 cloud codes, 255 unlabelled or nodata; absent if no scene has truth
    index.parquet   one row a patch: where it comes from, its group, coverage and content hash
    store.json      the manifest: roles, recipe, what was left out, data version

Random reads from one memory-mapped array are 30 (uncompressed) to 140 (deflate) times faster than from pairs of
GeoTIFFs (``benchmarks/patch_reading.py``). Nothing is pickled, and opening a store reads no pixels.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from cloud_assets.bands import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD
from cloud_assets.errors import InvalidData
from cloud_assets.patches.recipe import IMAGES, PatchRecipe
from cloud_assets.storage import link_or_copy

if TYPE_CHECKING:
    import pandas as pd

COVERAGE_NAMES: Final = MappingProxyType(
    {CLEAR: "clear", THICK_CLOUD: "thick", THIN_CLOUD: "thin", CLOUD_SHADOW: "cloud_shadow"}
)
"""How the columns ``<name>_percentage`` of the index name the cloud codes."""


class Role(BaseModel, frozen=True, extra="forbid"):
    """What one array of a store holds."""

    bands: tuple[str, ...]  # in channel order, as the recipe named them
    instrument: str  # that the digital numbers belong to
    nodata: float | None  # digital number that marks missing pixels, None if there is none (NaN always is missing)
    dtype: str
    shape: tuple[int, int, int]  # (C, H, W) of a patch


class StoreManifest(BaseModel, frozen=True, extra="forbid"):
    """The content of ``store.json``."""

    schema_version: Literal[1] = 1  # of the folder's layout
    dataset: str
    count: int  # number of patches
    roles: Mapping[str, Role]  # one entry an array
    has_masks: bool  # whether there is a masks.npy
    recipe: PatchRecipe
    catalog_version: str  # data version of the catalogue of scenes
    is_synthetic: bool  # whether the pixels are simulated
    skipped: tuple[tuple[str, str], ...] = ()  # (item, reason) of the scenes that could not be read
    dropped_blank: int = 0  # how many patches held too few valid pixels
    dropped_blank_patches: tuple[str, ...] = ()  # names of the first of them
    notes: tuple[str, ...] = ()  # anything a reader of a report should know
    data_version: str  # hash over patch names, their content and grouping, and the recipe


class PatchStore:
    """Patches of one task, read from a folder."""

    def __init__(self, directory: Path, manifest: StoreManifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self.data_version = manifest.data_version
        """Changes exactly when a pixel, a label, the grouping or the recipe changes."""
        self.is_synthetic = manifest.is_synthetic  # whether the pixels are simulated
        self.roles = manifest.roles  # what each array holds, by role
        self.has_masks = manifest.has_masks  # whether there is a truth mask for every patch
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    @classmethod
    def open(cls, directory: Path | str) -> "PatchStore":
        """Opens a store without reading its pixels.

        Raises:
            InvalidData: If a part is missing, truncated or does not fit the manifest.
        """
        directory = Path(directory)
        try:
            manifest = StoreManifest.model_validate_json((directory / "store.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InvalidData(
                f"{directory} is no patch store (no store.json): materialise the patches first."
            ) from error
        except ValidationError as error:
            raise InvalidData(f"{directory}/store.json is damaged: {error}\nMaterialise the patches again.") from error
        store = cls(directory, manifest)
        for name in store.array_names:
            store.array(name)
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes get the path and map the file themselves instead of a copy of all pixels.
        return PatchStore.open, (self.directory,)

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def array_names(self) -> tuple[str, ...]:
        """Names that :meth:`array` knows."""
        return (*self.roles, "masks") if self.has_masks else tuple(self.roles)

    def array(self, name: str = IMAGES) -> npt.NDArray[Any]:
        """The memory-mapped array of a role, or the masks.

        Returns:
            (N, C, H, W) digital numbers, or for ``masks`` (N, H, W) uint8 codes; read-only.

        Raises:
            InvalidData: If the file is missing, truncated or has another shape or data type than the manifest says.
        """
        if name in self._arrays:
            return self._arrays[name]
        if name not in self.array_names:
            raise InvalidData(f"{self.directory} holds no {name!r}; it holds {', '.join(self.array_names)}.")
        path = self.directory / f"{name}.npy"
        role = self.roles.get(name)
        if role is None:
            expected = f"uint8 {(len(self), *next(iter(self.roles.values())).shape[1:])}"
        else:
            expected = f"{role.dtype} {(len(self), *role.shape)}"
        try:
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InvalidData(f"{path} is missing or truncated ({error}): materialise the patches again.") from error
        if f"{array.dtype} {array.shape}" != expected:
            raise InvalidData(f"{path} holds {array.dtype} {array.shape}, the manifest says {expected}: make it again.")
        self._arrays[name] = array.view(np.ndarray)  # indexing the memmap subclass costs more than the read itself
        return self._arrays[name]

    @property
    def masks(self) -> npt.NDArray[np.uint8]:
        """The truth masks, (N, H, W) uint8 codes; see :attr:`has_masks`."""
        return self.array("masks")

    @cached_property
    def index(self) -> "pd.DataFrame":
        """One row a patch, in the order of the arrays.

        Raises:
            InvalidData: If the table is missing, damaged, or has another number of rows than there are patches.
        """
        import pandas as pd

        path = self.directory / "index.parquet"
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise InvalidData(f"{path} cannot be read ({error}): materialise the patches again.") from error
        if len(table) != len(self):
            raise InvalidData(f"{path} has {len(table)} rows for {len(self)} patches: materialise the patches again.")
        return table

    def save(self, directory: Path) -> None:
        """Puts the store's files into another folder, as hard links where the file system allows it, else as copies."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in (*(f"{array}.npy" for array in self.array_names), "index.parquet", "store.json"):
            link_or_copy(self.directory / name, directory / name)

    def summary(self) -> dict[str, Any]:
        """Counts, sizes and mean coverage, for reports and metadata."""
        coverage = self.index[[f"{name}_percentage" for name in (*COVERAGE_NAMES.values(), "cloud")]].mean()
        return {
            "patches": len(self),
            "groups": int(self.index["group"].nunique()),
            "roles": {
                name: f"{role.instrument}: {', '.join(role.bands)}; {role.dtype} {role.shape}"
                for name, role in self.roles.items()
            },
            "mean_coverage": {name: round(float(value), 2) for name, value in coverage.dropna().items()},
            "mean_valid_fraction": round(float(self.index["valid_fraction"].mean()), 4),
            "skipped_scenes": len(self.manifest.skipped),
            "dropped_blank": self.manifest.dropped_blank,
            "megabytes": round(sum(self.array(name).nbytes for name in self.array_names) / 1e6, 1),
            "is_synthetic": self.is_synthetic,
        }
