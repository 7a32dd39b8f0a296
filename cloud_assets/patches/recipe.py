"""Settings of patch cutting: bands, patch size, least share of valid pixels."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from cloud_assets.errors import InvalidRecipe

IMAGES = "images"
"""Name of the one role that single-image tasks have; pairs name their own, for example ``sar`` and ``optical``."""


class PatchRecipe(BaseModel, frozen=True, extra="forbid"):
    """How scenes become patches.

    A *role* is one array of the patch store. Most tasks have the single role ``images`` and only give ``bands``;
    tasks on co-registered pairs give ``roles`` instead.
    """

    bands: tuple[str, ...] = Field((), description="Bands of the images, native (B04) or common (red) names, in order.")
    roles: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="For pairs: bands of each role, for example sar: [VV, VH], optical: [B04, B03, B02].",
    )
    size: Annotated[int, Field(ge=8, le=8192)] | None = Field(
        None, description="Edge of the square patches in pixels; empty: the scenes' own size, the same for all."
    )
    resize: bool = Field(
        False, description="Resize each scene to size x size instead of cutting windows out of it (photo-like images)."
    )
    minimum_valid: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Patches with a smaller share of valid (not nodata) pixels are left out, and counted."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.bands) == bool(self.roles):
            raise InvalidRecipe("a patch recipe has either bands (one image a patch) or roles (pairs), not both.")
        for role, bands in self.role_bands.items():
            if not role.isidentifier() or role in {"masks", "index", "store"}:
                raise InvalidRecipe(f"{role!r} cannot name a role: use a plain word other than masks, index and store.")
            if not bands:
                raise InvalidRecipe(f"role {role!r} has no bands: name some.")
            if len(set(bands)) != len(bands):
                raise InvalidRecipe(f"role {role!r} lists a band twice: {', '.join(bands)}. Name each once.")
        if self.resize and self.size is None:
            raise InvalidRecipe("resize needs a size to resize to.")
        return self

    @property
    def role_bands(self) -> dict[str, tuple[str, ...]]:
        """Band names of each role."""
        return {role: tuple(bands) for role, bands in self.roles.items()} if self.roles else {IMAGES: self.bands}
