"""Products of whole scenes: how a family declares what its models make, and the work that its functions are handed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, Self

from pydantic import BaseModel, Field, model_validator

from cloud_assets.datasets.scene import Grid
from cloud_assets.errors import InvalidRecipe
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.tiling import Tiling
from cloud_assets.imagery.writing import Picture, RasterDraft, RasterForm
from cloud_assets.inference.bundle import ModelCard
from cloud_assets.inference.device import MOST_WORKERS, Parallelism
from cloud_assets.inference.predictor import Predictor

DEFAULT_PATCH = 256  # side of windows for models whose card names no patch size, pixels
_ELSEWHERE = 0.25  # of the memory, for what is read, blended and written while windows go through a network
_SMALLEST_WINDOW = 256  # pixels: of smaller ones too much is overlap
_OVERLAP_OF_PATCHES = 4  # windows of models that know one patch size overlap by this part of it


class ProductSettings(BaseModel, frozen=True, extra="forbid"):
    """How products are made: what the functions of the families may read."""

    window: int = Field(1024, ge=32, description="Largest side of the windows of segmentation, pixels.")
    overlap: int = Field(32, ge=0, description="Smallest overlap of neighbouring windows, pixels.")
    memory_gigabytes: float = Field(
        1.0, ge=0.01, description="Memory over the model, GB: sets the windows' size and how many are under way."
    )
    batch_megapixels: float = Field(
        0.3, gt=0, description="Pixels that go through a network at once, in millions, where windows are small."
    )
    test_time_augmentation: bool | None = Field(
        None, description="Average the prediction over flips. Unset: as the model was validated."
    )
    operating_point: Literal["sensitive", "balanced", "strict"] | None = Field(
        None, description="Threshold and outline of masks: to find all cloud, or to be sure of it. Unset: the model's."
    )
    shadow_geometry: bool = Field(
        default=True,
        description="Where it is known how the sun stood, call shadows clear that no cloud of the scene can cast.",
    )
    validity_buffer_metres: float = Field(
        150.0, ge=0, description="Around clouds and shadows this far, pixels are not usable, metres."
    )
    feather_metres: float = Field(
        100.0, ge=0, description="Width of the blend at the edge of filled pixels in the cloud-free estimate."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overlap >= self.window:
            raise InvalidRecipe(f"overlap ({self.overlap}) must be smaller than window ({self.window}).")
        if 2 * self.overlap > self.window:
            times = (self.window / (self.window - self.overlap)) ** 2
            raise InvalidRecipe(
                f"windows of {self.window} pixels that overlap by {self.overlap} predict every pixel {times:.0f} "
                "times: overlap by at most half a window."
            )
        return self

    def within_memory(self, pixel_bytes: float, workers: int) -> tuple[Self, int]:
        """Windows (alike on all machines) and calls at once that keep to the memory if a pixel takes so many bytes."""
        pixels = (1 - _ELSEWHERE) * self.memory_gigabytes * 1e9 / pixel_bytes
        side = math.isqrt(int(pixels / MOST_WORKERS)) // 32 * 32
        window = min(self.window, max(side, _SMALLEST_WINDOW, 2 * self.overlap))
        calls = min(workers, max(1, int(pixels / window**2)))
        # Calls beside each other gain nothing by several windows in one.
        batch = min(self.batch_megapixels, pixels / (MOST_WORKERS if calls > 1 else 1) / 1e6)
        return self.model_copy(update={"window": window, "batch_megapixels": batch}), calls

    def batch_size(self, tiling: Tiling) -> int:
        """How many windows of this size go through a network at once; at least one."""
        return max(1, int(self.batch_megapixels * 1e6 / (tiling.vertical.size * tiling.horizontal.size)))


@dataclass(frozen=True)
class SceneProduct:
    """A raster that models make of a scene; also the name of its file without ``.tif``."""

    name: str
    title: str  # for people
    family: str  # whose models make it
    make: "Callable[[SceneWork], None]"
    """Opens drafts by :meth:`SceneWork.draft`, writes them, and notes statistics. Products that come out of one pass
    over the scene share one function, which is called once."""
    form: "RasterForm | Callable[[SceneWork], RasterForm]"  # what the raster holds, or how to find out
    needs: tuple[str, ...] = ()  # products that have to be made before
    or_from: tuple[str, ...] = ()
    """Products that replace a model of the family where there is none; beside a model they are made if possible."""
    reads: Literal["scene", "radar"] = "scene"  # what the model reads: the scene, or the radar scene of the same place
    level: str | None = None  # the only level of scenes that it is made of; None: any that the model reads
    companions: "tuple[SceneProduct, ...]" = ()  # rasters that are always written together with this one
    any_back_end: bool = False  # whether a library other than PyTorch may run the model's network
    counts_pixels: bool = False  # whether ``make`` calls :attr:`SceneWork.progress` for each pixel of the scene
    shares_nodata: bool = False  # whether it lies on the scene's own pixels and has nodata exactly where the scene has
    picture: Callable[[RasterDraft, SceneSource], Picture] | None = None
    """How it is shown; None: by its colour table, else from dark for low to bright for high."""
    note: str = ""  # what a reader of the picture should know


class Models(Protocol):
    """Models that suit scenes, by family."""

    def has(self, family: str) -> bool:
        """Whether there is a model of this family."""

    def card(self, family: str, source: SceneSource) -> ModelCard:
        """The card of the model that suits a scene best."""

    def predictor(self, family: str, source: SceneSource) -> Predictor:
        """The predictor of the model that suits a scene best, reading the scene's instrument."""

    def back_end(self, family: str, source: SceneSource) -> str:
        """Library and arithmetic that run that model; empty for the predictor's own network."""


@dataclass
class SceneWork:
    """A scene while its rasters are made."""

    source: SceneSource  # the scene, on the grid of its products
    radar: SceneSource | None  # a radar scene of the same place, on the same grid
    models: Models
    settings: ProductSettings
    scratch: Path  # folder for drafts
    progress: Callable[[int], object]  # called with the number of finished pixels
    share: Parallelism = field(default_factory=Parallelism.of_machine)
    drafts: dict[str, RasterDraft] = field(default_factory=dict)
    """Product -> its draft, finished once its function has returned."""
    statistics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    back_end: str = ""  # library and arithmetic that ran the network, where it could be chosen

    def draft(self, product: SceneProduct, grid: Grid | None = None) -> RasterDraft:
        """A draft of a product to write to, in a ``with`` block; without a grid it lies on the scene's own pixels."""
        form = product.form if isinstance(product.form, RasterForm) else product.form(self)
        draft = RasterDraft(self.scratch / f"{product.name}.tif", grid or self.source.grid, form)
        self.drafts[product.name] = draft
        return draft

    def patch_tiling(self, patch_size: int | None) -> Tiling:
        """Windows of the size that a model was trained on."""
        size, grid = patch_size or DEFAULT_PATCH, self.source.grid
        return Tiling.plan(grid.height, grid.width, size, size // _OVERLAP_OF_PATCHES, fixed=True)
