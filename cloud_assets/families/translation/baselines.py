"""Baselines of translation: one constant colour, and a linear regression on the backscatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import NoUsablePatches

if TYPE_CHECKING:
    from cloud_assets.families.translation.pairs import Pairs

Floats = npt.NDArray[np.float32]

MEAN_COLOUR, LINEAR = "mean colour", "linear regression"


class Baseline(Protocol):
    """Predicts reflectance without a network."""

    def predict(self, radar: Floats) -> Floats:
        """(N, 2, H, W) backscatter in dB -> (N, K, H, W) reflectance."""
        ...


class MeanColour:
    """The training patches' mean reflectance of each band, everywhere.

    Args:
        colour: (K,) reflectance.
    """

    def __init__(self, colour: npt.NDArray[np.float64]) -> None:
        self.colour = colour

    def predict(self, radar: Floats) -> Floats:
        """The same colour for every pixel; ``radar`` only tells how many there are."""
        shape = (len(radar), len(self.colour), *radar.shape[2:])
        return np.broadcast_to(self.colour.astype(np.float32)[:, None, None], shape)


class LinearBackscatter:
    """Linear regression on VV, VH and their local means and variances.

    Args:
        pixels: (M, features) of training pixels.
        reflectance: (M, K) of the same pixels.
        window: Side of the window of local means and variances, pixels.
        clip: Backscatter is clipped to this range first, dB.
    """

    def __init__(
        self, pixels: Floats, reflectance: Floats, window: int, clip: tuple[float, float] = (-25.0, 0.0)
    ) -> None:
        from sklearn.linear_model import LinearRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._window, self._clip = window, clip
        self._model = make_pipeline(StandardScaler(), LinearRegression()).fit(pixels, reflectance)

    def predict(self, radar: Floats) -> Floats:
        """(N, 2, H, W) backscatter in dB -> (N, K, H, W) reflectance in [0, 1]."""
        made = []
        for patch in radar:
            found = features(patch, self._window, self._clip)
            flat = self._model.predict(found.reshape(len(found), -1).T)
            made.append(np.clip(flat, 0, 1).T.reshape(-1, *patch.shape[1:]))
        return np.stack(made).astype(np.float32)


def features(radar: Floats, window: int, clip: tuple[float, float]) -> Floats:
    """Backscatter, its local mean and its local variance, (3 C, H, W) of (C, H, W) in dB; no data counts as darkest."""
    from scipy.ndimage import uniform_filter

    clipped = np.clip(np.nan_to_num(radar, nan=clip[0], neginf=clip[0]), *clip).astype(np.float32)
    means = np.stack([uniform_filter(band, window, mode="reflect") for band in clipped])
    squares = np.stack([uniform_filter(np.square(band), window, mode="reflect") for band in clipped])
    return np.concatenate([clipped, means, np.maximum(squares - np.square(means), 0)])


def fit_baselines(
    pairs: Pairs, indices: npt.NDArray[np.int64], *, pixels: int, window: int
) -> dict[str, MeanColour | LinearBackscatter]:
    """Fits both on the training split.

    Args:
        pairs: The patches.
        indices: Rows of the training split.
        pixels: About how many pixels the regression is fitted on, spread evenly over the patches.
        window: Side of its window, pixels.

    Raises:
        NoUsablePatches: If there is no valid training pixel.
    """
    rng = np.random.default_rng(0)
    share = max(1, -(-pixels // max(len(indices), 1)))
    sums, count = np.zeros(len(pairs.bands)), 0
    inputs, outputs = [], []
    for index in indices:
        radar, reflectance, valid = pairs.read(index)
        if not valid.any():
            continue
        sums += reflectance[:, valid].sum(axis=1, dtype=np.float64)
        count += int(valid.sum())
        chosen = rng.permutation(np.flatnonzero(valid))[:share]
        found = features(radar, window, (-25.0, 0.0))
        inputs.append(found.reshape(len(found), -1)[:, chosen].T)
        outputs.append(reflectance.reshape(len(reflectance), -1)[:, chosen].T)
    if count == 0:
        raise NoUsablePatches("the training split holds no valid pixel, so there is no mean colour to compare with.")
    return {
        MEAN_COLOUR: MeanColour(sums / count),
        LINEAR: LinearBackscatter(np.concatenate(inputs), np.concatenate(outputs), window),
    }
