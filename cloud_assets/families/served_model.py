"""What MLflow loads when a registered model is asked for: raw digital numbers in, the task's answer out.

MLflow finds this module by its name in the logged model (``loader_module``) and hands :func:`_load_pyfunc` the model
bundle's folder. So a served model is safetensors and a card; nothing is unpickled, and mlflow is not imported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import ModelBundle


class ServedModel:
    """A model bundle behind MLflow's ``predict``."""

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle
        self._family = family_of(bundle)
        self._predictor = self._family.predictor(bundle)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the digital numbers that the model takes."""
        return np.dtype(INSTRUMENTS[self.bundle.card.preprocessing.instrument].dtype)

    def predict(
        self, model_input: npt.NDArray[Any], params: Mapping[str, Any] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Answers for a batch of any height and width.

        Args:
            model_input: (N, H, W, bands) raw digital numbers, bands in the card's order.
            params: Not used; MLflow passes it.

        Returns:
            The task's answer, each array with N first; for segmentation ``mask`` (N, H, W), uint8 cloud codes with 255
            for nodata, and ``cloud_probability`` (N, H, W), float32.
        """
        answer = self._predictor.predict(np.ascontiguousarray(np.moveaxis(model_input, -1, 1)))
        return {name: array for name, array in answer.items() if name not in self._family.not_served}


def _load_pyfunc(data_path: str) -> ServedModel:
    """MLflow's entry point, whose name is MLflow's choice; it gets the model bundle's folder."""
    return ServedModel(ModelBundle.open(Path(data_path)))
