"""Options of scene products."""

from collections.abc import Collection
from typing import Literal, Self

from pydantic import Field, model_validator

from cloud_assets.errors import InvalidRecipe
from cloud_assets.families import FAMILIES
from cloud_assets.families.scene_product import ProductSettings, SceneProduct
from cloud_assets.inference.device import BackEndName


class SceneOptions(ProductSettings):
    """How scenes are processed and which products are wanted."""

    products: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Products to make, such as mask, coverage or anomaly. Unset: all that the given models can make.",
    )
    resolution_metres: float | None = Field(
        default=None, gt=0, description="Process and write at this coarser resolution. Unset: the scene's own."
    )
    back_end: BackEndName = Field(default="auto", description="Library that runs segmentation networks.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="'auto' takes a GPU if there is one.")
    accept_other_level: bool = Field(
        default=False, description="Run a model on another processing level than it was trained on."
    )
    overwrite: bool = Field(default=False, description="Make the products again even if they are up to date.")

    @model_validator(mode="after")
    def _check_products(self) -> Self:
        if self.products:
            known_products(self.products)
        return self


def declared_products() -> dict[str, SceneProduct]:
    """The products that can be asked for, by name, in the order in which they are made."""
    return {product.name: product for family in FAMILIES.values() for product in family.products}


def known_products(names: Collection[str]) -> tuple[str, ...]:
    """The products of these names, in the order in which they are made.

    Raises:
        InvalidRecipe: If there is no such product.
    """
    known = declared_products()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidRecipe(f"no such product: {', '.join(unknown)}; there are {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def declared_rasters() -> dict[str, SceneProduct]:
    """All products by name, those that come with others too."""
    products = declared_products()
    return {**products, **{one.name: one for product in products.values() for one in product.companions}}
