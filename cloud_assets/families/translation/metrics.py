"""Metrics of predicted reflectance, gathered patch by patch; pixels without data in either picture take no part."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, PearsonCorrCoef, R2Score
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    spectral_angle_mapper,
    structural_similarity_index_measure,
)
from torchmetrics.image import PeakSignalNoiseRatio

Pictures = npt.NDArray[np.float32]  # (N, C, H, W) reflectance
Flags = npt.NDArray[np.bool_]

HISTOGRAM_EDGES = np.linspace(0, 1, 401)  # of the reflectance histograms
_SMALLEST_FOR_SCALES = 176
"""Pixels a side that five scales with a window of 11 need: 11 must be left after four halvings."""
_SMALL = 1e-3
_TINY = 1e-12
_NDVI_BINS = np.linspace(-1, 1, 101)


class TranslationScores:
    """Compares predicted with true reflectance.

    PSNR, RMSE, MAE, R² and correlation are over all valid pixels of all patches together; SSIM, MS-SSIM and the
    spectral angle are means over patches, pixels without data being equal (0) in both pictures there.
    ``recoloured_psnr`` is the PSNR after the best straight line for each band, fitted to these pixels.

    Args:
        bands: Names of the bands.
        data_range: Reflectance that counts as full scale.
        stretch: Reflectance shown as black and as white in the display metrics.
        vegetation: Positions of red and near infrared, if both are among the bands.
    """

    def __init__(
        self, bands: Sequence[str], data_range: float, stretch: tuple[float, float], vegetation: tuple[int, int] | None
    ) -> None:
        self._bands, self._range, self._stretch, self._vegetation = bands, data_range, stretch, vegetation
        self._psnr = PeakSignalNoiseRatio(data_range=data_range)
        self._display_psnr = PeakSignalNoiseRatio(data_range=1.0)
        kinds: dict[str, Callable[[], Metric]] = {
            "rmse": partial(MeanSquaredError, squared=False),
            "mae": MeanAbsoluteError,
            "r2": R2Score,
            "correlation": PearsonCorrCoef,
        }
        self._by_band = [{name: kind() for name, kind in kinds.items()} for _ in bands]
        self._ndvi = {"ndvi_rmse": MeanSquaredError(squared=False), "ndvi_correlation": PearsonCorrCoef()}
        self.sums: dict[str, list[float]] = {"ssim": [], "ms_ssim": [], "sam": [], "display_ssim": []}
        self.rows: list[int] = []
        self.patch_psnr: list[float] = []
        self.histograms = np.zeros((2, len(bands), len(HISTOGRAM_EDGES) - 1), np.int64)
        self.ndvi_histogram = np.zeros((len(_NDVI_BINS) - 1, len(_NDVI_BINS) - 1), np.int64)
        self.pixels = 0

    def update(self, rows: npt.NDArray[np.int64], predicted: Pictures, true: Pictures, valid: Flags) -> None:
        """Takes patches (N, …) and their rows in the store; one without a valid pixel (N, H, W) is passed over."""
        made, wanted = (torch.from_numpy(np.where(valid[:, None], part, np.float32(0))) for part in (predicted, true))
        for index, seen in enumerate(valid):
            if seen.any():
                self.rows.append(int(rows[index]))
                self._update_patch(made[[index]], wanted[[index]], torch.from_numpy(seen))

    def _update_patch(self, made: Tensor, wanted: Tensor, seen: Tensor) -> None:
        pairs = made[0][:, seen].double(), wanted[0][:, seen].double()
        self.pixels += pairs[0].shape[1]
        self._psnr.update(*pairs)
        self.patch_psnr.append(
            float(10 * torch.log10(self._range**2 / (pairs[0] - pairs[1]).square().mean().clamp_min(_TINY)))
        )
        for band, metrics in enumerate(self._by_band):
            for metric in metrics.values():
                metric.update(pairs[0][band], pairs[1][band])
            for side, values in enumerate(pairs):
                clipped = values[band].clamp(0, 1).numpy()
                self.histograms[side, band] += np.histogram(clipped, HISTOGRAM_EDGES)[0]
        ssim = structural_similarity_index_measure(made, wanted, data_range=self._range)
        self.sums["ssim"].append(_number(ssim))
        if min(made.shape[2:]) >= _SMALLEST_FOR_SCALES:
            scales = multiscale_structural_similarity_index_measure(made, wanted, data_range=self._range)
            self.sums["ms_ssim"].append(float(scales))
        if len(self._bands) > 1:
            made_spectra, true_spectra = (part.clamp_min(_SMALL)[None, :, :, None] for part in pairs)
            angles = spectral_angle_mapper(made_spectra, true_spectra, reduction="none")
            self.sums["sam"].append(float(torch.rad2deg(angles.double().mean())))
        if self._vegetation is not None:
            made_index, true_index = (ndvi(part.numpy(), self._vegetation) for part in pairs)
            for metric in self._ndvi.values():
                metric.update(torch.from_numpy(made_index), torch.from_numpy(true_index))
            self.ndvi_histogram += np.histogram2d(true_index, made_index, [_NDVI_BINS, _NDVI_BINS])[0].astype(np.int64)
        low, high = self._stretch
        made, wanted = (((part - low) / (high - low)).clamp(0, 1) * seen for part in (made, wanted))
        self._display_psnr.update(made[0][:, seen].double(), wanted[0][:, seen].double())
        self.sums["display_ssim"].append(_number(structural_similarity_index_measure(made, wanted, data_range=1.0)))

    def metrics(self) -> dict[str, float]:
        """All metrics by their names; those that the data do not allow are left out."""
        with warnings.catch_warnings():
            # One constant colour has no correlation with anything; it is left out.
            warnings.filterwarnings("ignore", message="The variance of predictions or target")
            found = {"psnr": float(self._psnr.compute())}
            found |= {name: float(np.mean(values)) for name, values in self.sums.items() if values}
            for name, metrics in zip(self._bands, self._by_band, strict=True):
                found |= {f"{metric}_{name}": float(value.compute()) for metric, value in metrics.items()}
            vegetation = {name: float(metric.compute()) for name, metric in self._ndvi.items() if self._vegetation}
        for metric in ("mae", "r2", "correlation"):
            found[metric] = float(np.mean([found[f"{metric}_{name}"] for name in self._bands]))
        squared = {name: found[f"rmse_{name}"] ** 2 for name in self._bands}
        found["rmse"] = float(np.sqrt(np.mean(list(squared.values()))))
        # R² says how large the error is relative to the variance; a straight line leaves 1 - correlation² of that.
        straightened = [
            value * (1 - found[f"correlation_{name}"] ** 2) / max(1 - found[f"r2_{name}"], _TINY)
            for name, value in squared.items()
        ]
        found["recoloured_psnr"] = float(10 * np.log10(self._range**2 / max(float(np.mean(straightened)), _TINY)))
        centres = (HISTOGRAM_EDGES[:-1] + HISTOGRAM_EDGES[1:]) / 2
        made, wanted = self.histograms
        found["wasserstein"] = float(
            np.mean([wasserstein_distance(centres, centres, *both) for both in zip(made, wanted, strict=True)])
        )
        found["display_psnr"] = float(self._display_psnr.compute())
        return {name: value for name, value in {**found, **vegetation}.items() if np.isfinite(value)}


def ndvi(reflectance: npt.NDArray[np.floating], vegetation: tuple[int, int]) -> npt.NDArray[np.float64]:
    """NDVI of (C, …) reflectance, -1 to 1."""
    red, infrared = (np.asarray(reflectance[band], np.float64) for band in vegetation)
    index: npt.NDArray[np.float64] = np.clip((infrared - red) / np.maximum(infrared + red, _SMALL), -1, 1)
    return index


def with_gain(metrics: Mapping[str, float], constant: Mapping[str, float]) -> dict[str, float]:
    """Adds ``psnr_gain``, ``display_psnr_gain``, ``recoloured_psnr_gain``: PSNR minus that of one constant colour."""
    against = {"psnr": "psnr", "display_psnr": "display_psnr", "recoloured_psnr": "psnr"}
    gains = {f"{name}_gain": metrics[name] - constant[other] for name, other in against.items() if name in metrics}
    return {**metrics, **gains}


def _number(value: object) -> float:
    return float(value[0] if isinstance(value, tuple) else value)  # type: ignore[arg-type]
