"""The loader of registered models."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from cloud_assets.families import load_predictor
from cloud_assets.inference.bundle import ModelBundle


@pytest.mark.parametrize("loader", ["cloud_assets.families.served_model", "cloud_assets.prediction.served_model"])
def test_registered_models_load_by_the_name_they_were_registered_with(
    tmp_path: Path, tiny_bundle: Callable[..., ModelBundle], loader: str
) -> None:
    bundle = tiny_bundle()
    bundle.save(tmp_path / "model")
    dn = np.random.default_rng(0).integers(6000, 9000, (2, 4, 32, 32)).astype(np.uint16)
    served = import_module(loader)._load_pyfunc(str(tmp_path / "model"))
    answer = served.predict(np.moveaxis(dn, 1, -1))
    expected = load_predictor(bundle).predict(dn)
    assert set(answer) == {"mask", "cloud_probability"}
    for name, values in answer.items():
        np.testing.assert_array_equal(values, expected[name])
