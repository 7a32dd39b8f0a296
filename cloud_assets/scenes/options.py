"""Options of scene products."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud_assets.errors import InvalidRecipe

Product = Literal["mask", "probability", "validity", "coverage", "anomaly", "cloud_free", "optical"]
ALL_PRODUCTS: tuple[Product, ...] = (
    "mask", "probability", "validity", "coverage", "anomaly", "cloud_free", "optical",
)  # fmt: skip


class SceneOptions(BaseModel):
    """How scenes are processed and which products are wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    products: tuple[Product, ...] | None = Field(
        default=None, min_length=1, description="Products to make. Unset: all that the given models can make."
    )
    window: int = Field(default=1024, ge=32, description="Largest side of the windows of segmentation, pixels.")
    overlap: int = Field(default=32, ge=0, description="Smallest overlap of neighbouring windows, pixels.")
    batch_megapixels: float = Field(
        default=0.3, gt=0, description="Pixels that go through a network at once, in millions: the memory budget."
    )
    resolution_metres: float | None = Field(
        default=None, gt=0, description="Process and write at this coarser resolution. Unset: the scene's own."
    )
    test_time_augmentation: bool | None = Field(
        default=None, description="Average the prediction over flips. Unset: as the model was validated."
    )
    back_end: Literal["auto", "torch", "onnxruntime", "openvino"] = Field(
        default="auto", description="Library that runs segmentation networks."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto' takes a GPU if there is one.")
    validity_buffer_metres: float = Field(
        default=150.0, ge=0, description="Around clouds and shadows this far, pixels are not usable, metres."
    )
    feather_metres: float = Field(
        default=100.0, ge=0, description="Width of the blend at the edge of filled pixels in the cloud-free estimate."
    )
    accept_other_level: bool = Field(
        default=False, description="Run a model on another processing level than it was trained on."
    )
    overwrite: bool = Field(default=False, description="Make the products again even if they are up to date.")

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

    def wants(self, product: Product) -> bool:
        """Whether a product is asked for, or nothing in particular is."""
        return self.products is None or product in self.products

    def batch_size(self, height: int, width: int) -> int:
        """How many windows of this size fit the memory budget; at least one."""
        return max(1, int(self.batch_megapixels * 1e6 / (height * width)))
