"""What can be made of a scene with the given models, decided before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import cloud_assets
from cloud_assets.errors import CloudAssetsError, NoModelForProduct
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.scenes.options import ALL_PRODUCTS, Product, SceneOptions
from cloud_assets.scenes.scene_models import SceneModels

# They change how fast the answer comes, not what it is.
_INDIFFERENT = frozenset({"overwrite", "back_end", "device", "batch_megapixels"})
_FROM_MASK: frozenset[Product] = frozenset({"mask", "probability", "validity", "coverage", "cloud_free"})
_FAMILIES: Mapping[Product, str] = {
    "coverage": "classification",
    "anomaly": "anomaly",
    "cloud_free": "translation",
    "optical": "translation",
}


@dataclass(frozen=True)
class ScenePlan:
    """The work on one scene."""

    source: SceneSource
    """The scene, on the grid of its products."""
    radar: SceneSource | None
    """A radar scene of the same place, on the same grid."""
    products: tuple[Product, ...]
    models: Mapping[str, str]
    """"task/variant" -> version."""
    warnings: tuple[str, ...]
    fingerprint: str
    segments: bool
    """Whether a segmentation model takes part."""

    @property
    def megapixels(self) -> float:
        """Pixels of the scene, in millions."""
        return self.source.grid.height * self.source.grid.width / 1e6

    @property
    def passes(self) -> int:
        """How often every pixel goes through a model whose progress is told."""
        return int(self.segments) + sum(product in self.products for product in ("anomaly", "cloud_free", "optical"))


def plan_scene(
    source: SceneSource, models: SceneModels, options: SceneOptions, radar: SceneSource | None = None
) -> ScenePlan:
    """Finds out which products can be made.

    Args:
        source: The scene.
        models: The models.
        options: What is wanted.
        radar: A Sentinel-1 scene of the same place and time.

    Returns:
        The plan: all products that are asked for, or if none is, all that are possible.

    Raises:
        NoModelForProduct: If a product is asked for that no model makes, or none is possible at all.
        InvalidData, UnknownBand, InvalidRecipe: Why the model of a wanted product does not suit the scene.
        InvalidScene: Likewise, or if the scene cannot be brought to the resolution asked for.
    """
    if options.resolution_metres is not None:
        source = source.at_resolution(options.resolution_metres)
    if radar is not None:
        radar = replace(radar, grid=source.grid)
    products: list[Product] = []
    reasons: dict[Product, CloudAssetsError] = {}
    for product in ALL_PRODUCTS if options.products is None else options.products:
        try:
            _check(product, source, models, radar)
        except CloudAssetsError as error:
            reasons[product] = error
        else:
            products.append(product)
    if reasons and (options.products is not None or not products):
        # That a radar scene has no cloud mask is no news; what keeps it from becoming optical is.
        is_radar = source.level == "backscatter" and "optical" in reasons
        raise reasons["optical"] if is_radar else next(iter(reasons.values()))
    segments = bool(set(products) & _FROM_MASK) and _has_segmenter(source, models)
    taking_part = _models(products, source, radar, models, segments)
    parts = [
        cloud_assets.__version__,
        source.fingerprint,
        radar.fingerprint if radar else "",
        ",".join(products),
        *sorted(f"{name}={version}" for name, version in taking_part.items()),
        options.model_dump_json(exclude=set(_INDIFFERENT)),
    ]
    fingerprint = blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
    return ScenePlan(source, radar, tuple(products), taking_part, source.warnings, fingerprint, segments)


def _check(product: Product, source: SceneSource, models: SceneModels, radar: SceneSource | None) -> None:
    """Raises the reason why a product cannot be made."""
    if product in ("mask", "probability", "validity"):
        models.suited("segmentation", source)
    elif product == "coverage":
        if models.has("classification"):
            models.suited("classification", source)
        else:
            models.suited("segmentation", source)
    elif product == "anomaly":
        models.suited("anomaly", source)
    elif product == "optical":
        if source.level != "backscatter":
            raise NoModelForProduct(
                f"{source.location} holds {source.level} reflectance already: 'optical' is made of Sentinel-1 scenes."
            )
        models.suited("translation", source)
    else:
        if radar is None:
            raise NoModelForProduct(
                f"{source.location}: a cloud-free estimate needs a Sentinel-1 scene of the same place (--radar)."
            )
        models.suited("segmentation", source)
        models.suited("translation", radar)


def _has_segmenter(source: SceneSource, models: SceneModels) -> bool:
    try:
        models.suited("segmentation", source)
    except CloudAssetsError:
        return False
    return True


def _models(
    products: Sequence[Product], source: SceneSource, radar: SceneSource | None, models: SceneModels, segments: bool
) -> dict[str, str]:
    bundles = [models.suited("segmentation", source)[0]] if segments else []
    for product, family in _FAMILIES.items():
        if product in products and models.has(family):
            reads = radar if product == "cloud_free" and radar is not None else source
            bundles.append(models.suited(family, reads)[0])
    return {f"{bundle.card.task}/{bundle.card.variant}": bundle.version for bundle in bundles}
