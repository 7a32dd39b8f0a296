"""Monitoring of generators in training: mode collapse, divergence, example pictures."""

import io
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cloud_assets.errors import TrainingFailed
from cloud_assets.learning.training_run import TrainingRun

_SMALLEST_RESPONSE = 0.02
_LARGEST_FALL = 6.0
_GAP = 4
"""Pixels between the panels of the picture."""


class CollapseMonitor(Callback):
    """Ends a training whose generator stops answering to its input, or whose error grows and stays large.

    Collapsed: pictures of different places differ by less than 2 % of what the true ones differ by. Diverged: PSNR lies
    6 dB below what it was. Either has to last. The best weights so far are kept, as always.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._collapsed = self._diverged = 0
        self._best = -np.inf
        self._has_answered = False
        self.reason = ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the validation metrics."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        response, psnr = metrics.get("val_response", 1.0), metrics["val_psnr"]
        self._best = max(self._best, psnr)
        self._collapsed = self._collapsed + 1 if response < _SMALLEST_RESPONSE else 0
        self._diverged = self._diverged + 1 if psnr < self._best - _LARGEST_FALL else 0
        self._has_answered |= response >= _SMALLEST_RESPONSE
        if self._collapsed >= self._patience:
            what = f"pictures of different places differ by only {response:.1%} of what true ones differ by"
            self._end(trainer, f"mode collapse: for {self._patience} epochs, {what}")
        elif self._diverged >= self._patience:
            what = f"PSNR is {psnr:.1f} dB, {self._best:.1f} dB was reached before"
            self._end(trainer, f"divergence: for {self._patience} epochs, {what}")

    def _end(self, trainer: Trainer, reason: str) -> None:
        advice = "Lower the learning rate or the weight of the adversarial loss, or use pairs."
        if not self._has_answered:
            raise TrainingFailed(f"{reason}, and it never was otherwise: there are no good weights to keep. {advice}")
        self.reason = f"{reason}; training ended after epoch {trainer.current_epoch}, the best weights were kept"
        logging.getLogger(__name__).warning("%s. %s", self.reason, advice)
        trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {
            "collapsed": self._collapsed,
            "diverged": self._diverged,
            "best": float(self._best),
            "has_answered": self._has_answered,
            "reason": self.reason,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on watching."""
        self._collapsed, self._diverged = state_dict["collapsed"], state_dict["diverged"]
        self._best, self._has_answered = state_dict["best"], state_dict["has_answered"]
        self.reason = state_dict["reason"]


class SamplePictures(Callback):
    """After each epoch hands the run a picture of some validation patches: radar, made, true.

    The module keeps the patches in ``shown``, (radar, made, true) of (C, H, W) on the network's scale each.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the picture."""
        shown: Any = pl_module.shown
        if shown:
            self._run.on_picture(trainer.current_epoch, "samples", sample_picture(shown))


def sample_picture(shown: "list[tuple[npt.NDArray[np.float32], ...]]") -> bytes:
    """One row a patch, as a PNG file.

    Args:
        shown: Radar, made and true pictures (C, H, W), scaled to [-1, 1].
    """
    import matplotlib.image

    rows = []
    for radar, made, true in shown:
        low, high = np.percentile(true, [1, 99])
        panels = [_coloured(radar, -1, 1), _coloured(made, low, high), _coloured(true, low, high)]
        edged = [np.pad(panel, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=1.0) for panel in panels]
        rows.append(np.concatenate(edged, axis=1))
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, np.concatenate(rows), format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _coloured(pixels: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.float32]:
    """The first three bands as red, green, blue (H, W, 3) in [0, 1]; of two bands VV, VH and VV once more."""
    bands = pixels[[0, 1, 2]] if len(pixels) > 2 else pixels[[0, -1, 0]]
    stretched: npt.NDArray[Any] = np.clip((bands - low) / max(high - low, 1e-3), 0, 1)
    return np.ascontiguousarray(np.moveaxis(stretched, 0, -1), np.float32)
