"""The models that are applied to scenes: loaded once, used for many."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.errors import CloudAssetsError, InvalidRecipe, InvalidScene, NoModelForProduct
from cloud_assets.families.segmentation.back_end_choice import choose_back_end
from cloud_assets.families.segmentation.scene_segmenter import SceneSegmenter
from cloud_assets.imagery.formats.scene_source import SceneSource, level_of
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.card import Family, ModelCard
from cloud_assets.inference.predictor import Predictor, load_predictor
from cloud_assets.patches.preprocessing import Preprocessing
from cloud_assets.scenes.options import SceneOptions

MAKES: Final[Mapping[Family, tuple[str, ...]]] = MappingProxyType(
    {
        "segmentation": ("mask", "probability", "validity", "coverage"),
        "classification": ("coverage",),
        "anomaly": ("anomaly",),
        "translation": ("cloud_free", "optical"),
    }
)
"""Family of models -> the products it has a part in."""


class Champions:
    """Loaded models. Several segmentation models may be given, one a sensor; of each other family one.

    Args:
        bundles: The models.
        options: Back end, device and precision.
        megapixels: How much is going to be predicted, if known.

    Raises:
        InvalidRecipe: If two models of one family compete.
        BackEndUnavailable: If the back end asked for cannot run a model.
    """

    def __init__(
        self, bundles: Iterable[ModelBundle], options: SceneOptions | None = None, megapixels: float | None = None
    ) -> None:
        self._options = options or SceneOptions()
        self._others: dict[str, ModelBundle] = {}
        self._predictors: dict[tuple[str, str], Predictor] = {}
        segmenters = []
        for bundle in bundles:
            if bundle.card.family == "segmentation":
                back_end = choose_back_end(bundle, self._options.back_end, self._options.device, megapixels=megapixels)
                segmenters.append(SceneSegmenter(bundle, back_end, self._options.test_time_augmentation))
            elif bundle.card.family in self._others:
                raise InvalidRecipe(
                    f"two {bundle.card.family} models were given ({self._others[bundle.card.family].card.task} and "
                    f"{bundle.card.task}): give one."
                )
            else:
                self._others[bundle.card.family] = bundle
        self.segmenters = tuple(segmenters)

    def has(self, family: Family) -> bool:
        """Whether there is a model of this family."""
        return bool(self.segmenters) if family == "segmentation" else family in self._others

    def card(self, family: Family) -> ModelCard:
        """The card of the one model of a family other than segmentation."""
        return self._others[family].card

    def version(self, family: Family) -> str:
        """The version of the one model of a family other than segmentation."""
        return self._others[family].version

    def segmenter(self, source: SceneSource) -> SceneSegmenter:
        """The segmentation model that suits a scene best: trained on its instrument, else on one with these bands.

        Raises:
            NoModelForProduct: If there is no segmentation model at all.
            InvalidData, UnknownBand, InvalidScene, InvalidRecipe: Why the best of them does not suit either.
        """
        if not self.segmenters:
            raise NoModelForProduct(f"no segmentation model was given, which the mask of {source.location} needs.")
        ranked = sorted(self.segmenters, key=lambda segmenter: _strangeness(segmenter.card, source))
        reasons: list[CloudAssetsError] = []
        for segmenter in ranked:
            try:
                self.preprocessing(segmenter.card, source)
            except CloudAssetsError as error:
                reasons.append(error)
            else:
                return segmenter
        raise reasons[0]

    def preprocessing(self, card: ModelCard, source: SceneSource) -> Preprocessing:
        """A model's preprocessing, made to fit the instrument of a scene.

        Raises:
            InvalidScene: If the model was trained on another processing level.
            InvalidData, UnknownBand: If the scene lacks a band of the model.
            InvalidRecipe: If the model reads another kind of instrument.
        """
        own = card.preprocessing
        # Also on its own instrument: a reader hands out the profile's numbers, whatever the training products' offset.
        fitted = own.for_instrument(source.instrument)
        source.resolve(fitted.bands)
        trained_on = level_of(INSTRUMENTS[own.instrument])
        if trained_on != source.level and not self._options.accept_other_level:
            raise InvalidScene(
                f"{source.location} holds {source.level} reflectance, {card.task}/{card.variant} was trained on "
                f"{trained_on} reflectance ({own.instrument}). Give the other level of the scene, or accept a less "
                "certain result (--accept-other-level)."
            )
        return fitted

    def check(self, family: Family, source: SceneSource) -> Preprocessing:
        """Makes sure that the one model of a family other than segmentation can read a scene.

        Returns:
            The model's preprocessing, made to fit the instrument of the scene.

        Raises:
            NoModelForProduct: If there is none.
            InvalidData, UnknownBand, InvalidScene, InvalidRecipe: If it does not suit the scene.
        """
        bundle = self._others.get(family)
        if bundle is None:
            raise NoModelForProduct(f"no {family} model was given, which {', '.join(MAKES[family])} needs.")
        return self.preprocessing(bundle.card, source)

    def predictor(self, family: Family, source: SceneSource) -> Predictor:
        """The one model of a family other than segmentation, reading the instrument of a scene; loaded once.

        Raises:
            NoModelForProduct: If there is none.
            InvalidData, UnknownBand, InvalidScene, InvalidRecipe: If it does not suit the scene.
        """
        preprocessing = self.check(family, source)
        key = (family, source.instrument)
        if key not in self._predictors:
            fitted = self._others[family].with_card(preprocessing=preprocessing)
            self._predictors[key] = load_predictor(fitted, self._options.device)
        return self._predictors[key]


def _strangeness(card: ModelCard, source: SceneSource) -> int:
    own = card.preprocessing.instrument
    platform = own.partition("_")[0] == source.instrument.partition("_")[0]
    return 0 if own == source.instrument else 1 if platform else 2
