"""What can be made of a scene with the given models, decided before anything is computed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from cloud_assets.errors import CloudAssetsError, NoModelForProduct
from cloud_assets.families.scene_product import SceneProduct
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.scenes.options import SceneOptions, declared_products
from cloud_assets.scenes.scene_models import SceneModels
from cloud_assets.version import __version__

# They change how fast the answer comes, not what it is.
_INDIFFERENT = frozenset({"overwrite", "back_end", "device", "batch_megapixels"})


@dataclass(frozen=True)
class ScenePlan:
    """The work on one scene."""

    source: SceneSource
    """The scene, on the grid of its products."""
    radar: SceneSource | None
    """A radar scene of the same place, on the same grid."""
    products: tuple[str, ...]
    """What is to be kept, besides companions."""
    steps: tuple[SceneProduct, ...]
    """What has to be made, in this order."""
    models: Mapping[str, str]
    """"task/variant" -> version of each model that takes part."""
    warnings: tuple[str, ...]
    fingerprint: str

    @property
    def megapixels(self) -> float:
        """Pixels of the scene, in millions."""
        return self.source.megapixels

    @property
    def passes(self) -> int:
        """How often every pixel goes through a model whose progress is told."""
        return len({step.make for step in self.steps if step.counts_pixels})


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
    inputs = _Inputs(source, radar, models)
    reasons = {name: inputs.reason(inputs.products[name]) for name in options.products or inputs.products}
    products = tuple(name for name, reason in reasons.items() if reason is None)
    refusals = {name: reason for name, reason in reasons.items() if reason is not None}
    if refusals and (options.products is not None or not products):
        # That a radar scene has no cloud mask is no news; why it does not become what radar scenes become is.
        expected = [name for name in refusals if inputs.products[name].level == source.level]
        raise refusals[(expected or list(refusals))[0]]
    steps = inputs.steps(products)
    versions = inputs.versions(steps)
    parts = [
        __version__,
        *(f"{one.instrument} {dict(one.bands)} {one.fingerprint}" for one in (source, radar) if one is not None),
        ",".join(products),
        *sorted(f"{name}={version}" for name, version in versions.items()),
        options.model_dump_json(exclude=set(_INDIFFERENT)),
    ]
    fingerprint = blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
    return ScenePlan(source, radar, products, steps, versions, source.warnings, fingerprint)


@dataclass
class _Inputs:
    """What there is to make products of."""

    source: SceneSource
    radar: SceneSource | None
    models: SceneModels

    def __post_init__(self) -> None:
        self.products = declared_products()

    def reason(self, product: SceneProduct) -> CloudAssetsError | None:
        """Why a product cannot be made; None if it can."""
        try:
            self._check(product)
        except CloudAssetsError as error:
            return error
        return None

    def steps(self, names: Iterable[str]) -> tuple[SceneProduct, ...]:
        """The products of these names and all that they are made from, in an order in which they can be made."""
        steps: dict[str, SceneProduct] = {}

        def add(product: SceneProduct) -> None:
            possible = [name for name in product.or_from if self.reason(self.products[name]) is None]
            for name in (*product.needs, *possible):
                add(self.products[name])
            steps.setdefault(product.name, product)

        for product in self.products.values():
            if product.name in names:
                add(product)
        return tuple(steps.values())

    def versions(self, steps: Iterable[SceneProduct]) -> dict[str, str]:
        """Versions of the models that take part, by "task/variant"."""
        bundles = [
            self.models.suited(step.family, self._read_by(step))[0] for step in steps if self.models.has(step.family)
        ]
        named = {f"{bundle.card.task}/{bundle.card.variant}": bundle for bundle in bundles}
        return {name: bundle.version for name, bundle in named.items()}

    def _check(self, product: SceneProduct) -> None:
        source = self._read_by(product)
        if product.level not in (None, source.level):
            raise NoModelForProduct(
                f"{source.location} holds {source.level} reflectance already: {product.name!r} is made of scenes of "
                f"{product.level}."
            )
        for name in product.needs:
            self._check(self.products[name])
        if product.or_from and not self.models.has(product.family):
            for name in product.or_from:
                self._check(self.products[name])
        else:
            self.models.suited(product.family, source)

    def _read_by(self, product: SceneProduct) -> SceneSource:
        if product.reads == "scene":
            return self.source
        if self.radar is None:
            raise NoModelForProduct(
                f"{self.source.location}: {product.name!r} needs a Sentinel-1 scene of the same place (--radar)."
            )
        return self.radar
