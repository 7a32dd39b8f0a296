"""Options of scene products, the models that scenes are processed with, and what can be made of a scene with them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Self

from pydantic import Field, model_validator

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import CloudAssetsError, InvalidRecipe, InvalidScene, NoModelForProduct
from cloud_assets.families import FAMILIES, family_of
from cloud_assets.families.scene_product import ProductSettings, SceneProduct
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.inference.bundle import ModelBundle, ModelCard
from cloud_assets.inference.device import BackEndName, DeviceName
from cloud_assets.inference.predictor import Predictor
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.version import __version__


class SceneOptions(ProductSettings):
    """How scenes are processed and which products are wanted."""

    products: tuple[str, ...] | None = Field(
        None, min_length=1, description="Products to make, such as mask or coverage. Unset: all that the models make."
    )
    resolution_metres: float | None = Field(
        None, gt=0, description="Process and write at this coarser resolution. Unset: the scene's own."
    )
    back_end: BackEndName = Field("auto", description="Library that runs segmentation networks.")
    device: DeviceName = Field("auto", description="'auto' takes an NVIDIA GPU if there is one.")
    accept_other_level: bool = Field(False, description="Run a model on another level than it was trained on.")
    overwrite: bool = Field(False, description="Make the products again even if they are up to date.")

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


_Key = tuple[str, str, tuple[str, ...]]  # family, instrument and bands of a model
# They change how fast the answer comes, not what it is.
_INDIFFERENT = frozenset({"overwrite", "back_end", "device", "batch_megapixels"})


class SceneModels:
    """Loaded models. Of each family several may be given that read different instruments or bands.

    Raises:
        InvalidRecipe: If two models of one family read the same.
        BackEndUnavailable: If the back end asked for cannot run a model.
    """

    def __init__(
        self, bundles: Iterable[ModelBundle], options: SceneOptions | None = None, megapixels: float | None = None
    ) -> None:
        from cloud_assets.inference.back_ends import choose_back_end

        self._options = options or SceneOptions()
        self._bundles: dict[_Key, ModelBundle] = {}
        self._back_ends: dict[_Key, Any] = {}
        self._predictors: dict[tuple[_Key, str, tuple[tuple[int, int | None], ...]], Predictor] = {}
        for bundle in bundles:
            card = bundle.card
            other = self._bundles.setdefault(_key(card), bundle)
            if other is not bundle:
                raise InvalidRecipe(
                    f"two {card.family} models were given that read the same bands of {card.preprocessing.instrument} "
                    f"({_named(other.card)} and {_named(card)}): give one."
                )
            if any(product.any_back_end for product in family_of(bundle).products):
                self._back_ends[_key(card)] = choose_back_end(
                    bundle, self._options.back_end, self._options.device, megapixels=megapixels
                )

    @property
    def bundles(self) -> tuple[ModelBundle, ...]:
        """The models, in the order in which they were given."""
        return tuple(self._bundles.values())

    def has(self, family: str) -> bool:
        """Whether there is a model of this family."""
        return any(held == family for held, _, _ in self._bundles)

    def suited(self, family: str, source: SceneSource) -> tuple[ModelBundle, Preprocessing]:
        """The family's model that suits a scene best, and its preprocessing made to fit the instrument of the scene.

        That is one trained on the scene's instrument, else one that finds its bands in it.

        Raises:
            NoModelForProduct: If there is no model of this family at all.
            InvalidData, UnknownBand, InvalidScene, InvalidRecipe: Why the best of them does not suit either.
        """
        held = [bundle for (other, _, _), bundle in self._bundles.items() if other == family]
        reasons: list[CloudAssetsError] = []
        for bundle in sorted(held, key=lambda bundle: _strangeness(bundle.card, source)):
            try:
                fitted = fitted_preprocessing(bundle.card, source, self._options.accept_other_level)
            except CloudAssetsError as error:
                reasons.append(error)
            else:
                return bundle, fitted
        if not reasons:
            made = ", ".join(product.name for product in FAMILIES[family].products)
            raise NoModelForProduct(f"no {family} model was given; {made} of {source.location} need one (--model).")
        raise reasons[0]

    def card(self, family: str, source: SceneSource) -> ModelCard:
        """The card of the model that suits a scene best; see :meth:`suited`."""
        return self.suited(family, source)[0].card

    def predictor(self, family: str, source: SceneSource) -> Predictor:
        """The predictor of the model that suits a scene best, reading the scene's instrument; loaded once."""
        bundle, fitted = self.suited(family, source)
        key = _key(bundle.card)
        place = (key, source.instrument, fitted.absent)
        if place not in self._predictors:
            adapted = bundle.with_card(preprocessing=fitted)
            if self._options.operating_point is not None:
                adapted = family_of(adapted).at_operating_point(adapted, self._options.operating_point)
            predictor = family_of(adapted).predictor(adapted, self._options.device, self._back_ends.get(key))
            self._predictors[place] = predictor
        return self._predictors[place]

    def back_end(self, family: str, source: SceneSource) -> str:
        """Library and arithmetic that run the model that suits a scene; empty for a predictor's own network."""
        return str(getattr(self._back_ends.get(_key(self.card(family, source))), "name", ""))


def fitted_preprocessing(card: ModelCard, source: SceneSource, accept_other_level: bool = False) -> Preprocessing:
    """A model's preprocessing, made to fit the instrument of a scene.

    Raises:
        InvalidScene: If the model was trained on another processing level.
        InvalidData, UnknownBand: If the scene lacks a band of the model.
        InvalidRecipe: If the model reads another kind of instrument.
    """
    own = card.preprocessing
    lacking = [band for band in own.optional if not source.has([band])]
    if len(lacking) == 1:  # models learn to do without any one of them, not without two
        own = own.without(lacking)
    # Also on its own instrument: a reader hands out the profile's numbers, whatever the training products' offset.
    fitted = own.for_instrument(source.read_as(own.instrument).instrument)
    source.resolve(fitted.bands)
    trained_on = INSTRUMENTS[own.instrument].level
    if trained_on != source.profile.level and not accept_other_level:
        raise InvalidScene(
            f"{source.location} holds {source.profile.level} reflectance, {_named(card)} was trained on {trained_on} "
            f"reflectance ({own.instrument}). Give the other level of the scene, or accept a less certain result "
            "(--accept-other-level)."
        )
    return fitted


def _key(card: ModelCard) -> _Key:
    return card.family, card.preprocessing.instrument, card.bands


def _named(card: ModelCard) -> str:
    return f"{card.task}/{card.variant}"


def _strangeness(card: ModelCard, source: SceneSource) -> int:
    own = card.preprocessing.instrument
    platform = own.partition("_")[0] == source.instrument.partition("_")[0]
    return 0 if own == source.instrument else 1 if platform else 2


@dataclass(frozen=True)
class ScenePlan:
    """The work on one scene."""

    source: SceneSource  # the scene, on the grid of its products
    radar: SceneSource | None  # a radar scene of the same place, on the same grid
    products: tuple[str, ...]  # what is to be kept, besides companions
    steps: tuple[SceneProduct, ...]  # what has to be made, in this order
    models: Mapping[str, str]  # "task/variant" -> version of each model that takes part
    warnings: tuple[str, ...]
    fingerprint: str

    @property
    def passes(self) -> int:
        """How often every pixel goes through a model whose progress is told."""
        return len({step.make for step in self.steps if step.counts_pixels})


def plan_scene(
    source: SceneSource, models: SceneModels, options: SceneOptions, radar: SceneSource | None = None
) -> ScenePlan:
    """Finds out which products can be made: all that are asked for, or if none is, all that are possible.

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
        expected = [name for name in refusals if inputs.products[name].level == source.profile.level]
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
    warnings = (*source.warnings, *inputs.missing_bands(steps))
    return ScenePlan(source, radar, products, steps, versions, warnings, fingerprint)


class _Inputs:
    """What there is to make products of."""

    def __init__(self, source: SceneSource, radar: SceneSource | None, models: SceneModels) -> None:
        self.source, self.radar, self.models = source, radar, models
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
        return {_named(bundle.card): bundle.version for bundle in bundles}

    def missing_bands(self, steps: Iterable[SceneProduct]) -> list[str]:
        """What is to be known about bands of the models that the scene lacks, a sentence each."""
        found = []
        seen = [step.family for step in steps if step.reads == "scene" and self.models.has(step.family)]
        for family in dict.fromkeys(seen):
            bundle, fitted = self.models.suited(family, self.source)
            names = bundle.card.preprocessing.bands
            for place, stand_in in fitted.absent:
                instead = "goes on without it" if stand_in is None else f"takes {names[stand_in]} for it"
                found.append(f"The scene has no {names[place]}: {_named(bundle.card)} {instead}, and is less certain.")
        return found

    def _check(self, product: SceneProduct) -> None:
        source = self._read_by(product)
        if product.level not in (None, source.profile.level):
            raise NoModelForProduct(
                f"{source.location} holds {source.profile.level} reflectance already: {product.name!r} is made of "
                f"scenes of {product.level}. Leave it out (--products)."
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
            raise NoModelForProduct(f"{self.source.location}: {product.name!r} needs a Sentinel-1 scene (--radar).")
        return self.radar
