"""Masks of xarray data: the same as of arrays, lazy where the data are."""

import numpy as np
import pytest

from cloud_assets.errors import InvalidData, InvalidRecipe
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import predict_array, predict_dataarray
from cloud_assets_tests.scenes.fakes import RGBN, cloudy_reflectance, landsat_dn, make_bundle

xr = pytest.importorskip("xarray")

SMALL = SceneOptions(window=64, overlap=32)
REFLECTANCE = cloudy_reflectance(96, 130)
DN = landsat_dn(REFLECTANCE)
DN[:, :20, :30] = 0
COORDINATES = {"band": list(RGBN), "y": np.arange(96) * -30.0, "x": np.arange(130) * 30.0}


def cube(values, **changes):
    return xr.DataArray(values, dims=("band", "y", "x"), coords=COORDINATES, **changes)


@pytest.fixture(scope="module")
def model():
    return make_bundle()


@pytest.fixture(scope="module")
def expected(model):
    return predict_array(model, DN, RGBN, options=SMALL)


def test_digital_numbers_reflectance_and_scaled_numbers_have_one_mask(model, expected):
    missing = (DN == 0).all(axis=0)
    reflectance = np.where(missing, np.nan, DN * 2e-5 - 0.1).astype(np.float32)
    packed = np.where(missing, -9999, np.rint((DN * 2e-5 - 0.1) * 1e5)).astype(np.int32)
    attributes = {"scale_factor": 1e-5, "add_offset": 0.0, "_FillValue": -9999}
    for array in (cube(DN), cube(reflectance), cube(packed, attrs=attributes)):
        found = predict_dataarray(model, array, options=SMALL)
        np.testing.assert_array_equal(found.mask == 255, missing)
        np.testing.assert_allclose(found.cloud_probability, expected["cloud_probability"], atol=2e-3)
    assert found.mask.dtype == np.uint8
    np.testing.assert_array_equal(found.x, COORDINATES["x"])


def test_variables_are_bands_in_any_order_beside_others(model, expected):
    shuffled = xr.Dataset({name: (("y", "x"), DN[RGBN.index(name)]) for name in ("nir", "blue", "red", "green")})
    shuffled["SCL"] = (("y", "x"), np.ones(DN.shape[1:], np.uint16))
    found = predict_dataarray(model, shuffled, options=SMALL)
    np.testing.assert_array_equal(found.mask, expected["mask"])


def test_dimensions_come_in_any_order_and_time_stays(model, expected):
    stacked = xr.concat([cube(DN), cube(DN[:, ::-1].copy())], "time").transpose("y", "x", "band", "time")
    found = predict_dataarray(model, stacked, options=SMALL)
    assert found.mask.dims == ("time", "y", "x")
    np.testing.assert_array_equal(found.mask[0], expected["mask"])


def test_chunks_stay_lazy_and_meet_without_seams(model, expected):
    pytest.importorskip("dask")
    lazy = predict_dataarray(model, cube(DN).chunk({"band": 1, "y": 48, "x": 70}), options=SMALL)
    assert lazy.mask.chunks == ((48, 48), (70, 60))
    found = lazy.compute(scheduler="synchronous")
    np.testing.assert_array_equal(found.mask == 255, expected["mask"] == 255)
    same = (found.mask.to_numpy() == expected["mask"]).mean()
    assert same > 0.99
    np.testing.assert_allclose(found.cloud_probability, expected["cloud_probability"], atol=0.05)


def test_a_cube_may_lack_a_band_that_another_stands_in_for(model):
    changes = {"optional": ("nir",), "stand_ins": {"nir": "red"}}
    able = model.with_card(preprocessing=model.card.preprocessing.model_copy(update=changes))
    copied = DN.copy()
    copied[3] = copied[0]
    expected = predict_array(able, copied, RGBN, options=SMALL)
    found = predict_dataarray(able, cube(DN).isel(band=[2, 0, 1]), options=SMALL)
    np.testing.assert_array_equal(found.mask, expected["mask"])


def test_what_is_missing_is_named(model):
    with pytest.raises(InvalidData, match="B5"):
        predict_dataarray(model, cube(DN).isel(band=[0, 1, 2]), options=SMALL)
    with pytest.raises(InvalidData, match="band, y and x"):
        predict_dataarray(model, cube(DN).rename(y="row"), options=SMALL)
    with pytest.raises(InvalidData, match="names are known"):
        predict_dataarray(model, xr.DataArray(DN[:3], dims=("band", "y", "x")), options=SMALL)
    with pytest.raises(InvalidRecipe, match="makes no masks"):
        predict_dataarray(make_bundle(family="classification"), cube(DN))


def test_a_scaling_that_says_nothing_is_none(model, expected):
    attributes = {"scale_factor": 1.0, "add_offset": 0.0}  # as rioxarray has them for files without tags
    found = predict_dataarray(model, cube(DN, attrs=attributes), options=SMALL)
    np.testing.assert_array_equal(found.mask, expected["mask"])
    with pytest.raises(InvalidData, match="are no reflectance"):
        predict_dataarray(model, cube(np.where(DN == 0, np.nan, DN), attrs=attributes), options=SMALL)
