"""Cloud masks of xarray data, chunk by chunk where they are lazy (odc-stac, rioxarray, stackstac)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLASS_NAMES, INSTRUMENTS, UNLABELLED, Instrument
from cloud_assets.errors import InvalidData, InvalidRecipe, InvalidScene
from cloud_assets.imagery.formats.band_names import find_band
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.prediction import AnyModel, predict_array

if TYPE_CHECKING:
    import xarray as xr

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
        options: Windows, back end and so on.

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
        >>> masks = predict_dataarray(load_model("simulation"), cube, instrument="sentinel2_l2a")  # doctest: +SKIP
        >>> clear = cube.where(masks.mask == 0)  # doctest: +SKIP
    """
    import xarray as xr

    card = model.card
    if card.family != _FAMILY:
        raise InvalidRecipe(f"{card.task}/{card.variant} is of the family {card.family}, which makes no masks.")
    key = instrument or card.preprocessing.instrument
    if key not in INSTRUMENTS:
        raise InvalidScene(f"there is no instrument {key!r}; there are {', '.join(INSTRUMENTS)}.")
    profile = INSTRUMENTS[key]
    array = data.to_dataarray("band") if isinstance(data, xr.Dataset) else data
    spatial = next((pair for pair in _SPATIAL if set(pair) <= set(array.dims)), None)
    if spatial is None or "band" not in array.dims:
        raise InvalidData(f"expected the dimensions band, y and x; found {', '.join(map(str, array.dims)) or 'none'}.")
    names, places = _bands(array, bands, profile, card.bands)
    array = array.isel(band=places).transpose(..., "band", *spatial)
    scale, offset = array.attrs.get("scale_factor"), array.attrs.get("add_offset")
    wanted = scaling or (None if scale is None and offset is None else Scaling(scale, offset))
    nodata = array.attrs.get("_FillValue", array.attrs.get("nodata", array.encoding.get("_FillValue")))

    def predicted(block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        dn = _digital_numbers(block.reshape(-1, *block.shape[-3:]), profile, wanted, nodata)
        answers = [predict_array(model, one, names, instrument=key, options=options) for one in dn]
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
    array: "xr.DataArray", given: Sequence[str] | None, profile: Instrument, needed: Sequence[str]
) -> tuple[tuple[str, ...], list[int]]:
    """The model's bands among those of an array: own names, and where they are."""
    count = array.sizes["band"]
    texts = given
    if texts is None and "band" in array.coords and array["band"].dtype.kind in "UO":
        texts = [str(value) for value in array["band"].values]
    if texts is None and isinstance(array.attrs.get("long_name"), (tuple, list)):
        texts = [str(value) for value in array.attrs["long_name"]]
    if texts is None and count == len(needed):
        texts = needed
    if texts is None or len(texts) != count:
        raise InvalidData(
            f"the array has {count} bands, {0 if texts is None else len(texts)} names are known: say bands=[…]; "
            f"{profile.name} has {', '.join(profile.names)}."
        )
    found = [find_band(text, profile) for text in texts]
    wanted = [profile.find(profile.find(band).name).name for band in needed]
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InvalidData(f"the array has no band {', '.join(missing)}; it has {', '.join(texts)}.")
    return tuple(wanted), [found.index(name) for name in wanted]


def _digital_numbers(
    values: npt.NDArray[Any], profile: Instrument, scaling: Scaling | None, nodata: float | None
) -> npt.NDArray[Any]:
    """Numbers of the instrument's profile, its nodata where there is none."""
    is_float = np.issubdtype(values.dtype, np.floating)
    if profile.unit != "reflectance" or (not is_float and scaling is None and nodata in (None, profile.nodata)):
        return values
    stated = scaling or (Scaling(1.0, 0.0) if is_float else Scaling(profile.scale, profile.offset))
    physical = values.astype(np.float64) * (1.0 if stated.scale is None else stated.scale) + (stated.offset or 0.0)
    missing = ~np.isfinite(values) if nodata is None or nodata != nodata else ~np.isfinite(values) | (values == nodata)
    return profile.to_dn(np.where(missing, np.nan, physical))
