"""The base class of predictors, which call one network on batches of patches; torch is imported when it is needed."""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidData
from cloud_assets.inference.device import (
    Parallelism,
    Precision,
    autocast,
    choose_device,
    keep_freed_memory,
    torch_threads,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from cloud_assets.inference.bundle import ModelBundle, ModelCard


class Predictor(ABC):
    """From raw digital numbers to a task's answer, as a model card describes it.

    Patches go through the network in batches of a fixed size (one on a processor, where larger ones gain nothing, but
    as many at once as :class:`Parallelism` says), so that a patch's answer does not depend on the others.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        network: Runs in place of the bundle's own network, such as a back end or an exported form of it.

    Raises:
        InvalidModel: If the card does not describe a model of the family, or the weights do not fit it.
    """

    gpu_batch: ClassVar[int] = 8
    precision: ClassVar[Precision] = "auto"
    is_channels_last: ClassVar[bool] = True

    def __init__(self, bundle: "ModelBundle", device: str = "auto", network: "nn.Module | None" = None) -> None:
        import torch

        keep_freed_memory()
        self.card: ModelCard = bundle.card
        """The card of the model."""
        self._device = choose_device(device)
        self._format = torch.contiguous_format  # which other networks turn into what they want
        if network is None:
            self._format = torch.channels_last if self.is_channels_last else self._format
            network = bundle.network().to(self._device, memory_format=self._format)  # type: ignore[call-overload]
        self._network: nn.Module = network

    @abstractmethod
    def predict(self, dn: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Answers for some patches.

        Args:
            dn: (N, C, H, W) raw digital numbers, bands in the card's order.

        Returns:
            The answer's parts by name; the first axis of each is N.

        Raises:
            InvalidData: If the shape does not fit the card.
        """

    @abstractmethod
    def network_input(self, dn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """What the network is given for some patches: (N, channels, height, width), preprocessed."""

    def _in_batches(
        self, pixels: npt.NDArray[np.float32], answer: "Callable[[Tensor], Tensor]", shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        """Answers (N, *shape) for pixels (N, channels, height, width), from ``answer`` to a batch of them."""
        size = 1 if self._device.type == "cpu" else self.gpu_batch

        def at(start: int) -> npt.NDArray[np.float32]:
            chunk = pixels[start : start + size]
            rows = np.arange(size) % len(chunk)  # a last, shorter batch is filled up: same size, same arithmetic
            return self._in_one_call(chunk[rows], answer)[: len(chunk)]

        share = Parallelism.of_machine()
        workers = share.workers if self._device.type == "cpu" else 1
        with torch_threads(share.threads), ThreadPoolExecutor(workers) as pool:
            results = pool.map(at, range(0, len(pixels), size))
            return np.concatenate([np.empty((0, *shape), np.float32), *results])

    def _in_one_call(
        self, pixels: npt.NDArray[np.float32], answer: "Callable[[Tensor], Tensor]"
    ) -> npt.NDArray[np.float32]:
        import torch

        batch = torch.from_numpy(pixels).to(self._device, memory_format=self._format)
        with torch.inference_mode(), autocast(self.precision, self._device):
            answers: npt.NDArray[np.float32] = answer(batch).float().cpu().numpy()
        return answers


def check_input(dn: npt.NDArray[Any], card: "ModelCard") -> npt.NDArray[Any]:
    """Raw digital numbers as they are, if they are (N, C, H, W) with the card's bands and some pixels.

    Raises:
        InvalidData: If not.
    """
    array = np.asarray(dn)
    if array.ndim != 4 or array.shape[1] != len(card.bands) or 0 in array.shape[2:]:
        raise InvalidData(
            f"{card.task}/{card.variant} takes digital numbers of shape (patches, {len(card.bands)}, height, width), "
            f"bands {', '.join(card.bands)} of {card.preprocessing.instrument}; got {array.shape}."
        )
    return array


def reflect_pad(pixels: npt.NDArray[np.float32], multiple: int, border: int = 0) -> npt.NDArray[np.float32]:
    """Mirrors pixels (N, C, H, W) beyond the edges by ``border`` on each side.

    Lower and right it is as much more as makes height and width multiples of a number.
    """
    margins = [(border, border + -(side + 2 * border) % multiple) for side in pixels.shape[2:]]
    return np.pad(pixels, ((0, 0), (0, 0), *margins), mode="reflect") if np.any(margins) else pixels
