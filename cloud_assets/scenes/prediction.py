"""Answers of trained models for arrays in memory and for whole scenes on disk: the bodies of the public API."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, UNLABELLED, Instrument
from cloud_assets.datasets.scene import Grid, RasterBand
from cloud_assets.errors import InvalidData, InvalidRecipe
from cloud_assets.families import family_of
from cloud_assets.families.scene_product import DEFAULT_PATCH
from cloud_assets.imagery.formats.names import find_band, known_instrument, located
from cloud_assets.imagery.formats.scaling import BRIGHTEST_REFLECTANCE, Scaling
from cloud_assets.imagery.formats.scene_formats import open_scene, radar_beside
from cloud_assets.imagery.formats.scene_source import SceneBand, SceneSource
from cloud_assets.imagery.saturation import Saturation
from cloud_assets.imagery.tiling import ArrayReader, Tiling
from cloud_assets.inference.bundle import ModelBundle, ModelCard
from cloud_assets.inference.device import Parallelism, torch_threads
from cloud_assets.inference.drift_reference import image_features
from cloud_assets.inference.predictor import Predictor
from cloud_assets.scenes.planning import SceneModels, SceneOptions, fitted_preprocessing
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.scenes.production import scene_products

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Model:
    """A trained model and the device that it runs on; loaded when it is first used, once for many calls."""

    bundle: ModelBundle
    device: str = "auto"
    _loaded: dict[tuple[str, bool, str | None], SceneModels] = field(default_factory=dict, repr=False, compare=False)

    @property
    def card(self) -> ModelCard:
        """What the model takes, answers and learned from."""
        return self.bundle.card

    @cached_property
    def predictor(self) -> Predictor:
        """The predictor of the model's family, as evaluation and serving use it."""
        return family_of(self.bundle).predictor(self.bundle, self.device)

    def predict(self, patches: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Answers for patches.

        Args:
            patches: (N, C, H, W) digital numbers, bands in the order of ``card.bands``.

        Returns:
            The answer's parts by name, N along the first axis of each: see the predictors of the families.
        """
        return self.predictor.predict(patches)

    def for_scenes(self, options: SceneOptions, megapixels: float) -> SceneModels:
        """The model made ready for scenes, once for each back end."""
        key = options.back_end, options.accept_other_level, options.operating_point
        if key not in self._loaded:
            here = options.model_copy(update={"device": self.device})
            self._loaded[key] = SceneModels([self.bundle], here, megapixels)
        return self._loaded[key]


_LEAST_VALID = 0.2  # windows with a smaller share of valid pixels are not observed
AnyModel = Model | ModelBundle  # a model as the public functions take it


def predict_array(
    model: AnyModel | SceneModels,
    array: npt.NDArray[Any],
    bands: Sequence[str] | None = None,
    *,
    instrument: str | None = None,
    options: SceneOptions | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Answers for an array of any height and width; large ones are segmented window by window as scenes on disk are.

    Args:
        model: The model, from :func:`load_model` for example.
        array: (C, H, W) digital numbers, or reflectance (floating point, 1 is white).
        bands: Own or common names of the C bands, in their order; more than the model needs is fine. None: the model's.
        instrument: Key in :data:`cloud_assets.bands.INSTRUMENTS` of the instrument that took them. None: the model's.
        options: ``cloud_assets.scenes.planning.SceneOptions(accept_other_level=True)`` and all that ``predict`` offers.

    Returns:
        Of a segmentation model ``mask`` (H, W) uint8 cloud codes, 255 for nodata, and ``cloud_probability`` (H, W)
        float32 in [0, 1], NaN for nodata. Of other models what their predictor answers, without the axis of patches.

    Raises:
        InvalidScene: If there is no such instrument, or the model was trained on another processing level.
        InvalidData: If names and bands do not match, or a band of the model is missing.

    Example:
        >>> import numpy as np
        >>> from cloud_assets import load_model, predict_array
        >>> model = load_model("simulation", device="cpu")
        >>> model.card.bands
        ('red', 'green', 'blue', 'nir')
        >>> predict_array(model, np.full((4, 64, 96), 12_000, np.uint16))["mask"].shape
        (64, 96)
    """
    chosen = options or SceneOptions()
    models = _ready(model, chosen, array[0].size / 1e6 if array.ndim == 3 and len(array) else 0.0)
    card, family = models.bundles[0].card, family_of(models.bundles[0])
    profile = known_instrument(instrument or card.preprocessing.instrument, "the array")
    names = [profile.find(band).name for band in bands or card.bands]
    if array.ndim != 3 or len(names) != len(array) or len(set(names)) != len(names):
        raise InvalidData(
            f"{len(names)} different band names need an array ({len(names)}, height, width), not {array.shape}."
        )
    if np.issubdtype(array.dtype, np.floating) and not _is_too_bright(array):
        array = _digital_numbers(array, profile, None, None)
    grid = Grid(array.shape[1], array.shape[2], None, (1, 0, 0, 0, 1, 0))
    in_memory = {name: SceneBand(RasterBand("array")) for name in names}
    source = SceneSource("array", profile.name, in_memory, grid, "the array", "")
    predictor = models.predictor(family.name, source)
    own = source.resolve(predictor.card.bands)
    dn = array[[names.index(name) for name in own]]
    if (saturation := Saturation.of(dn, profile, own)) is not None:
        dn = saturation.completed(dn)
    share = Parallelism.of_machine()
    with torch_threads(share.threads):
        return family.predict_picture(predictor, ArrayReader(dn, profile), grid, chosen, share)


def predict_scene(
    models: AnyModel | Sequence[AnyModel] | SceneModels,
    path: Path | str,
    out_dir: Path | str,
    options: SceneOptions | None = None,
    *,
    bands: Sequence[str] | None = None,
    instrument: str | None = None,
    scaling: Scaling | None = None,
    radar: Path | str | None = None,
) -> SceneProducts:
    """Makes the products of one scene on disk: Cloud-Optimised GeoTIFFs, a STAC item and a page that shows them.

    Args:
        models: A model or several; of each family those that suit the scene best are used.
        path: The scene or its address, in any format of
            :func:`cloud_assets.imagery.formats.scene_formats.open_scene`.
        out_dir: The products go to the folder of the scene's name in it. Kept until scene, models or options change.
        options: What is wanted; None: all that the models can make.
        bands: Names of a raster file's bands, where it does not tell.
        instrument: The instrument, where the file does not tell.
        scaling: From a raster file's numbers to physical units, where it does not tell.
        radar: A Sentinel-1 scene of the same place, for the cloud-free estimate; None: ``<scene>_s1.tif`` beside it.

    Returns:
        The products: ``paths``, ``statistics`` and more.

    Raises:
        CloudAssetsError: If the scene cannot be read, or a wanted product cannot be made.

    Example:
        >>> from cloud_assets import load_model, predict_scene
        >>> made = predict_scene(load_model("simulation"), "scene.tif", "products")  # doctest: +SKIP
        >>> made.paths["mask"], made.statistics["cloud_percentage"]  # doctest: +SKIP
        (PosixPath('products/scene/mask.tif'), 42.3)
    """
    chosen = options or SceneOptions()
    place = located(path)
    source = open_scene(place, bands, instrument, scaling)
    beside = radar_beside(place) if radar is None else located(radar)
    radar_source = None if beside is None else open_scene(beside, instrument="sentinel1_grd")
    ready = _ready(models, chosen, source.megapixels)
    return scene_products(source, ready, Path(out_dir), chosen, radar_source)


def _ready(given: AnyModel | Sequence[AnyModel] | SceneModels, options: SceneOptions, megapixels: float) -> SceneModels:
    if isinstance(given, SceneModels):
        return given
    models = [given] if isinstance(given, Model | ModelBundle) else given
    if len(models) == 1 and isinstance(models[0], Model):
        return models[0].for_scenes(options, megapixels)
    devices = {model.device for model in models if isinstance(model, Model)}
    here = options.model_copy(update={"device": devices.pop()}) if len(devices) == 1 else options
    bundles = [model.bundle if isinstance(model, Model) else model for model in models]
    return SceneModels(bundles, here, megapixels)


def observe_scene(source: SceneSource, bundle: ModelBundle, most: int) -> list[dict[str, float]]:
    """Features of pixels and answer of ``most`` windows at most that hold enough data, at equal distances over a scene.

    Windows have the size of the model's training patches, for statistics of larger ones would spread less.

    Raises:
        CloudAssetsError: If the model cannot read the scene.
    """
    card = bundle.card
    fitted = fitted_preprocessing(card, source, accept_other_level=True)
    family = family_of(bundle)
    predictor = family.predictor(bundle.with_card(preprocessing=fitted))
    side = card.patch_size or DEFAULT_PATCH
    tiling = Tiling.plan(source.grid.height, source.grid.width, side, 0, fixed=True)
    positions = list(tiling.positions())
    # An odd stride meets all columns of a grid of windows, not the same few in every row.
    stride = max(1, -(-len(positions) // most)) | 1 if len(positions) > most else 1
    rows = []
    with source.read_as(card.preprocessing.instrument).open(fitted.bands) as reader:
        for position in positions[::stride][:most]:
            dn = reader.read(tiling.window(position))
            if reader.valid(dn).mean() < _LEAST_VALID:
                continue
            answer = predictor.predict(dn[None])
            rows.append({**image_features(dn, fitted, card.bands), **family.answer_features(answer)})
    return rows


_SPATIAL = (("y", "x"), ("latitude", "longitude"), ("lat", "lon"))
_FAMILY = "segmentation"


def predict_dataarray(
    model: AnyModel,
    data: "xr.DataArray | xr.Dataset",
    *,
    bands: Sequence[str] | None = None,
    instrument: str | None = None,
    scaling: Scaling | None = None,
    options: SceneOptions | None = None,
) -> "xr.Dataset":
    """Cloud mask and probability of a data array; nothing is computed of a chunked one before it is asked for.

    Args:
        model: A segmentation model, from :func:`load_model` for example.
        data: Dimensions ``band``, ``y`` and ``x`` (or ``latitude``, ``longitude``) in any order, and any others such
            as ``time``; or a data set with one variable a band. Floating-point numbers are reflectance (1 is white),
            NaN where there is none; integers are digital numbers of the instrument, or as ``scale_factor`` and
            ``add_offset`` among the attributes say.
        bands: Own or common names of the bands in their order; None: those of the coordinate ``band``, of the
            attribute ``long_name`` or of the variables; else the model's.
        instrument: Key in :data:`cloud_assets.bands.INSTRUMENTS`; None: the model's.
        scaling: From integers to reflectance, in place of the attributes.
        options: ``cloud_assets.scenes.planning.SceneOptions(accept_other_level=True)`` and all that ``predict`` offers.

    Returns:
        ``mask`` (uint8 cloud codes, 255 for nodata) and ``cloud_probability`` (float32, NaN for nodata), with the
        other dimensions and coordinates of the data.

    Raises:
        InvalidRecipe: If the model makes no masks.
        InvalidScene: If there is no such instrument, or the model was trained on another processing level.
        InvalidData: If dimensions or bands are missing.

    Example:
        >>> from cloud_assets import load_model, predict_dataarray
        >>> cube = odc.stac.load(items, bands=["red", "green", "blue", "nir"], chunks={})  # doctest: +SKIP
        >>> masks = predict_dataarray(load_model("simulation"), cube, instrument="sentinel2_l1c")  # doctest: +SKIP
        >>> clear = cube.where(masks.mask == 0)  # doctest: +SKIP
    """
    import xarray as xr

    card = model.card
    if card.family != _FAMILY:
        raise InvalidRecipe(f"{card.task}/{card.variant} makes no masks (family {card.family}): give another model.")
    profile = known_instrument(instrument or card.preprocessing.instrument, "the array")
    array = data.to_dataarray("band") if isinstance(data, xr.Dataset) else data
    spatial = next((pair for pair in _SPATIAL if set(pair) <= set(array.dims)), None)
    if spatial is None or "band" not in array.dims:
        raise InvalidData(f"expected the dimensions band, y and x; found {', '.join(map(str, array.dims)) or 'none'}.")
    names, places = _bands(array, bands, profile, card)
    array = array.isel(band=places).transpose(..., "band", *spatial)
    scale, offset = array.attrs.get("scale_factor"), array.attrs.get("add_offset")
    is_stated = scale not in (None, 1) or offset not in (None, 0)  # rioxarray states 1 and 0 for files without tags
    wanted = scaling or (Scaling(scale, offset) if is_stated else None)
    nodata = array.attrs.get("_FillValue", array.attrs.get("nodata", array.encoding.get("_FillValue")))

    def predicted(block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        dn = _digital_numbers(block.reshape(-1, *block.shape[-3:]), profile, wanted, nodata)
        answers = [predict_array(model, one, names, instrument=profile.name, options=options) for one in dn]
        both = [np.stack([one["mask"].astype(np.float32), one["cloud_probability"]]) for one in answers]
        return np.stack(both).reshape(*block.shape[:-3], 2, *block.shape[-2:])

    if array.chunks is None:
        both = predicted(array.to_numpy())
    else:
        import dask.array as da

        chunked = array.chunk({"band": -1}).data
        # A chunk sees as much of its neighbours as a window of a scene does.
        depth = (options or SceneOptions()).overlap
        around = {
            axis: 0 if axis < chunked.ndim - 2 else min(depth, *chunked.chunks[axis]) for axis in range(chunked.ndim)
        }
        wide = da.overlap.overlap(chunked, depth=around, boundary="none")  # type: ignore[no-untyped-call]
        chunks = (*wide.chunks[:-3], (2,), *wide.chunks[-2:])
        answered = wide.map_blocks(
            predicted, dtype=np.float32, chunks=chunks, meta=np.empty((0,) * wide.ndim, np.float32)
        )
        both = da.overlap.trim_overlap(answered, depth=around, boundary="none")  # type: ignore[no-untyped-call]
    layout = array.isel(band=0, drop=True)
    kept = {name: value for name, value in layout.attrs.items() if name in ("grid_mapping", "crs")}
    codes = {
        "flag_values": list(CLASS_NAMES),
        "flag_meanings": " ".join(n.replace(" ", "_") for n in CLASS_NAMES.values()),
    }
    mask = layout.copy(data=both[..., 0, :, :].astype(np.uint8))
    probability = layout.copy(data=both[..., 1, :, :])
    mask.attrs = {**kept, "long_name": "cloud mask", **codes, "nodata": UNLABELLED}
    probability.attrs = {**kept, "long_name": "cloud probability", "units": "1"}
    return xr.Dataset({"mask": mask, "cloud_probability": probability})


def _bands(
    array: "xr.DataArray", given: Sequence[str] | None, profile: Instrument, card: ModelCard
) -> tuple[tuple[str, ...], list[int]]:
    """The model's bands among those of an array: own names, and where they are."""
    count = array.sizes["band"]
    texts = given
    if texts is None and "band" in array.coords and array["band"].dtype.kind in "UO":
        texts = [str(value) for value in array["band"].values]
    if texts is None and isinstance(array.attrs.get("long_name"), (tuple, list)):
        texts = [str(value) for value in array.attrs["long_name"]]
    if texts is None and count == len(card.bands):
        texts = card.bands
    if texts is None or len(texts) != count:
        raise InvalidData(
            f"the array has {count} bands, {0 if texts is None else len(texts)} names are known: say bands=[…]; "
            f"{profile.name} has {', '.join(profile.names)}."
        )
    found = [find_band(text, profile) for text in texts]
    own = {band: find_band(band, profile) for band in card.bands}
    missing = [band for band, name in own.items() if name not in found]
    if len(missing) > 1 or not set(missing) <= set(card.preprocessing.optional):
        lacking = ", ".join(own[band] or band for band in missing)
        raise InvalidData(f"the array has no band {lacking}; it has {', '.join(texts)}.")
    wanted = tuple(name for name in own.values() if name is not None and name in found)
    return wanted, [found.index(name) for name in wanted]


def _is_too_bright(values: npt.NDArray[Any]) -> bool:
    """Whether floating-point numbers are no reflectance, by some of them."""
    return bool(np.nanpercentile(np.append(values[..., ::8, ::8], 0), 99) > BRIGHTEST_REFLECTANCE)


def _digital_numbers(
    values: npt.NDArray[Any], profile: Instrument, scaling: Scaling | None, nodata: float | None
) -> npt.NDArray[Any]:
    """Numbers of the instrument's profile, its nodata where there is none."""
    is_float = np.issubdtype(values.dtype, np.floating)
    if profile.unit != "reflectance" or (not is_float and scaling is None and nodata in (None, profile.nodata)):
        return values
    if is_float and scaling is None and _is_too_bright(values):
        raise InvalidData(f"floating-point numbers up to {np.nanmax(values):g} are no reflectance: give their scaling.")
    stated = scaling or (Scaling(1.0, 0.0) if is_float else Scaling(profile.scale, profile.offset))
    physical = values.astype(np.float64) * (1.0 if stated.scale is None else stated.scale) + (stated.offset or 0.0)
    missing = ~np.isfinite(values) if nodata is None or nodata != nodata else ~np.isfinite(values) | (values == nodata)
    return profile.to_dn(np.where(missing, np.nan, physical))
