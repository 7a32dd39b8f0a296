"""Base class of predictors that call one network on batches of patches."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import Precision, autocast, choose_device
from cloud_assets.inference.process_memory import keep_freed_memory


class NetworkPredictor(ABC):
    """A network on a device.

    Patches go through the network in batches of a fixed size (one on a processor, where larger ones gain nothing), so
    that a patch's answer does not depend on which patches it came with.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        network: Runs in place of the bundle's own network, for example an exported form of it.
    """

    gpu_batch: ClassVar[int] = 8
    precision: ClassVar[Precision] = "auto"
    memory_format: ClassVar[torch.memory_format] = torch.channels_last

    def __init__(self, bundle: ModelBundle, device: str = "auto", network: nn.Module | None = None) -> None:
        keep_freed_memory()
        self.card = bundle.card
        """The card of the model."""
        self._device = choose_device(device)
        network = bundle.network() if network is None else network
        self._network = network.to(self._device, memory_format=self.memory_format)  # type: ignore[call-overload]

    @abstractmethod
    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """See :meth:`cloud_assets.inference.predictor.Predictor.predict`."""

    @abstractmethod
    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See :meth:`cloud_assets.inference.predictor.Predictor.network_input`."""

    def _in_batches(
        self, pixels: npt.NDArray[np.float32], answer: Callable[[Tensor], Tensor], shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        """Calls the network batch by batch.

        Args:
            pixels: (N, channels, height, width).
            answer: From a batch of them to the answers, (batch size, …).
            shape: Of one answer.

        Returns:
            (N, *shape).
        """
        size = 1 if self._device.type == "cpu" else self.gpu_batch
        results = [np.empty((0, *shape), np.float32)]
        for start in range(0, len(pixels), size):
            chunk = pixels[start : start + size]
            rows = np.arange(size) % len(chunk)  # a last, shorter batch is filled up: same size, same arithmetic
            results.append(self._in_one_call(chunk[rows], answer)[: len(chunk)])
        return np.concatenate(results)

    def _in_one_call(
        self, pixels: npt.NDArray[np.float32], answer: Callable[[Tensor], Tensor]
    ) -> npt.NDArray[np.float32]:
        batch = torch.from_numpy(pixels).to(self._device, memory_format=self.memory_format)
        with torch.inference_mode(), autocast(self.precision, self._device):
            answers: npt.NDArray[np.float32] = answer(batch).float().cpu().numpy()
        return answers
