"""What a scene would look like without its clouds: colours of a prediction fitted to the clear surroundings.

The prediction is fitted to the observed pixels band by band (least squares over all clear pixels: a prediction that
says nothing gets a slope of zero), and what is left is interpolated from the clear pixels around each cloud on a coarse
grid. So a filled pixel takes its detail from the prediction and its colour from its surroundings.
"""

import numpy as np
import numpy.typing as npt

from cloud_assets.bands import CLEAR, UNLABELLED
from cloud_assets.imagery.geometry import add_by_cell, distance_within
from cloud_assets.imagery.tiling import Window

Reflectance = npt.NDArray[np.float32]

OBSERVED, SYNTHETIC, BLENDED, NOTHING = 0, 1, 2, 255
"""Where a pixel of the estimate comes from."""
CELL = 16
_SLOPES = (0.0, 2.0)
_LEAST_VARIANCE = 1e-8
_ENOUGH = CELL * CELL // 16


class ColourMatch:
    """Gathers clear pixels of a whole scene, then corrects the prediction of any part of it."""

    def __init__(self, height: int, width: int, bands: int) -> None:
        shape = (bands, -(-height // CELL), -(-width // CELL))
        self._count = np.zeros(shape[1:], np.float32)
        self._observed = np.zeros(shape, np.float32)
        self._predicted = np.zeros(shape, np.float32)
        # Sums of 1, x, y, xx, xy of the prediction x and the observation y.
        self._moments = np.zeros((5, bands))
        self._slope = np.ones(bands, np.float32)
        self._intercept = np.zeros(bands, np.float32)
        self._residual = np.zeros(shape, np.float32)

    def add(
        self, window: Window, observed: Reflectance, predicted: Reflectance, is_clear: npt.NDArray[np.bool_]
    ) -> None:
        """Takes a part of the scene (C, h, w) and where both are to be compared (h, w); parts must not overlap."""
        x = np.where(is_clear, predicted, 0).astype(np.float64)
        y = np.where(is_clear, observed, 0).astype(np.float64)
        count = np.full(len(x), np.count_nonzero(is_clear))
        self._moments += [count, x.sum((1, 2)), y.sum((1, 2)), (x * x).sum((1, 2)), (x * y).sum((1, 2))]
        add_by_cell(self._predicted, x, window, CELL)
        add_by_cell(self._observed, y, window, CELL)
        add_by_cell(self._count, is_clear.astype(np.float64), window, CELL)

    def fit(self) -> bool:
        """Fits the prediction to what was observed; to be called once, after all parts.

        Returns:
            False if there is no clear pixel to fit to: predictions then stay as they are.
        """
        count, x, y, xx, xy = self._moments
        if not count.any():
            return False
        variance = xx / count - (x / count) ** 2
        covariance = xy / count - (x / count) * (y / count)
        slope = np.where(variance > _LEAST_VARIANCE, covariance / np.maximum(variance, _LEAST_VARIANCE), 0)
        self._slope = np.clip(slope, *_SLOPES).astype(np.float32)
        self._intercept = ((y - self._slope * x) / count).astype(np.float32)
        cells = np.maximum(self._count, 1)
        fitted = self._slope[:, None, None] * self._predicted / cells + self._intercept[:, None, None]
        # A cell with a few clear pixels says more about noise than about colour.
        weights = np.where(self._count >= _ENOUGH, self._count, np.float32(0))
        residual = (self._observed / cells - fitted).astype(np.float32)
        self._residual = spread(residual, weights if weights.any() else self._count)
        return True

    def correct(self, window: Window, predicted: Reflectance) -> Reflectance:
        """Predictions (C, h, w) of a window in the colours of their surroundings."""
        rows = (np.arange(window.row, window.row + window.height) + 0.5) / CELL - 0.5
        columns = (np.arange(window.column, window.column + window.width) + 0.5) / CELL - 0.5
        local = _bilinear(self._residual, rows, columns)
        corrected: Reflectance = self._slope[:, None, None] * predicted + self._intercept[:, None, None] + local
        return corrected


def spread(values: Reflectance, weights: Reflectance) -> Reflectance:
    """Fills holes of (C, H, W), where weights (H, W) are 0, from all around by averaging at coarser and coarser scales.

    "Push and pull", Gortler et al. 1996, The Lumigraph, section 3.4.
    """
    height, width = weights.shape
    if max(height, width) <= 1:
        return values
    rows, columns = -(-height // 2), -(-width // 2)
    coarse_weights = np.zeros((rows, columns), np.float32)
    coarse = np.zeros((len(values), rows, columns), np.float32)
    for down in (0, 1):
        for right in (0, 1):
            part = weights[down::2, right::2]
            coarse_weights[: part.shape[0], : part.shape[1]] += part
            coarse[:, : part.shape[0], : part.shape[1]] += values[:, down::2, right::2] * part
    coarse /= np.where(coarse_weights > 0, coarse_weights, 1)
    # A cell counts once, however many pixels are in it, or large clear areas would outshout near ones.
    filled = spread(coarse, np.minimum(coarse_weights, 1))
    interpolated = _bilinear(filled, (np.arange(height) + 0.5) / 2 - 0.5, (np.arange(width) + 0.5) / 2 - 0.5)
    return np.where(weights > 0, values, interpolated)


def _bilinear(values: Reflectance, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Reflectance:
    """Samples (C, H, W) at the fractional (rows) x (columns), constant beyond the border."""
    for axis, positions in ((1, rows), (2, columns)):
        last = values.shape[axis] - 1
        inside = np.clip(positions, 0, last)
        first = np.floor(inside).astype(np.int64)
        share = (inside - first).astype(np.float32).reshape((-1, 1) if axis == 1 else -1)
        values = values.take(first, axis) * (1 - share) + values.take(np.minimum(first + 1, last), axis) * share
    return values.astype(np.float32)


def fill_weight(codes: npt.NDArray[np.uint8], reach: int, feather: float) -> Reflectance:
    """Share of the prediction in the estimate: 1 on clouds and shadows, falling to 0 at ``feather`` pixels from them.

    Args:
        codes: (H, W) cloud codes, 255 for nodata.
        reach: Whole pixels within which distances are looked for.
        feather: Pixels from a cloud's edge to where nothing is filled.
    """
    is_hidden = (codes != CLEAR) & (codes != UNLABELLED)
    if reach < 1:
        return np.asarray(is_hidden, np.float32)
    distance = distance_within(is_hidden, reach)
    # Half a cosine: no kink where the blend begins and ends.
    near = np.clip(1 - distance / np.float32(feather + 1), 0, 1)
    weight: Reflectance = 0.5 - 0.5 * np.cos(np.float32(np.pi) * near)
    return weight


def fill(
    observed: Reflectance, seen: npt.NDArray[np.bool_], predicted: Reflectance, weight: Reflectance
) -> tuple[Reflectance, npt.NDArray[np.uint8]]:
    """The estimate (C, H, W), NaN where there is none, and where each pixel (H, W) of it comes from."""
    has_prediction = np.isfinite(predicted).all(axis=0)
    # Without a radar pixel the edge of a cloud stays as observed, and its inside has nothing.
    weight = np.where(has_prediction, weight, np.where(weight < 1, np.float32(0), np.float32(np.nan)))
    mixed = np.where(weight > 0, observed + weight * (np.nan_to_num(predicted) - observed), observed)
    estimate = np.where(seen & np.isfinite(weight), mixed, np.float32(np.nan))
    kind = np.where(weight >= 1, SYNTHETIC, np.where(weight > 0, BLENDED, OBSERVED)).astype(np.uint8)
    kind[~seen | ~np.isfinite(weight)] = NOTHING
    return estimate, kind
