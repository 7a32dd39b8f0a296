"""Libraries that run a network, PyTorch, ONNX Runtime and OpenVINO, and the choice of one for a model."""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_assets.errors import BackEndUnavailable
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import (
    BackEndName,
    Parallelism,
    autocast,
    choose_device,
    choose_precision,
    keep_freed_memory,
    torch_threads,
)
from cloud_assets.inference.onnx_export import OnnxNetwork, import_onnxruntime, to_onnx
from cloud_assets.patches.preprocessing import Preprocessing

_BESIDE_NETWORK = 200.0  # bytes a pixel: digital numbers, preprocessed ones and its temporaries, probabilities
_EXAMPLE_SIDE = 128
_OPSET = 18


class BackEnd(Protocol):
    """A module that stands in for a network and can be called from several threads at once.

    It takes preprocessed pixels (N, C, H, W) and returns logits (N, K, H, W) in float32.
    """

    name: str  # library and arithmetic, such as "openvino bfloat16 on cpu"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits of preprocessed pixels."""


class TorchBackEnd(nn.Module):
    """PyTorch: channels-last, bfloat16 where the processor or GPU has it, the same arithmetic as the predictors'.

    With ``precision`` 32 it is single precision also where half is there.
    """

    def __init__(self, bundle: ModelBundle, device: str, precision: Literal["auto", "32"] = "auto") -> None:
        super().__init__()
        self._device = choose_device(device)
        self._precision = precision
        self._network = bundle.network().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        names = {"32": "float32", "bf16": "bfloat16", "16": "float16"}
        self.name = f"torch {names[choose_precision(precision, self._device)]} on {self._device.type}"

    def forward(self, pixels: Tensor) -> Tensor:
        """See :class:`BackEnd`."""
        with torch.inference_mode(), autocast(self._precision, self._device):
            logits: Tensor = self._network(pixels.to(self._device, memory_format=torch.channels_last))
        return logits.float()


def onnx_back_end(bundle: ModelBundle, parallelism: Parallelism) -> OnnxNetwork:
    """ONNX Runtime on the processor, float32.

    Raises:
        BackEndUnavailable: If it is not installed or cannot take the network.
    """
    import_onnxruntime()  # before the conversion, which takes seconds
    return OnnxNetwork(to_onnx(bundle.network(), _example(bundle).numpy(), _OPSET, any_size=True), parallelism.threads)


class OpenVinoBackEnd(nn.Module):
    """OpenVINO on the processor, bfloat16 where it has it.

    It is compiled for each size of pictures, which takes as long as one compiled for all sizes needs to meet a new one;
    after that it is a tenth faster and takes a third of the memory. Pictures go through it one by one.

    Raises:
        BackEndUnavailable: If it is not installed or cannot take the network.
    """

    def __init__(self, bundle: ModelBundle, parallelism: Parallelism) -> None:
        super().__init__()
        openvino = import_openvino()
        core = openvino.Core()
        has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.name = f"openvino {'bfloat16' if has_bfloat16 else 'float32'} on cpu"
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bfloat16 else "f32",
            "NUM_STREAMS": parallelism.workers,
            "INFERENCE_NUM_THREADS": parallelism.workers * parallelism.threads,
        }

        @lru_cache(2)  # the probe's size and that of windows
        def compiled(shape: tuple[int, ...]) -> Any:
            fixed = model.clone()
            fixed.reshape(shape)
            return core.compile_model(fixed, "CPU", settings)

        try:
            model = openvino.convert_model(bundle.network(), example_input=_example(bundle))
            compiled((1, bundle.card.in_channels, _PROBE_SIDE, _PROBE_SIDE))
        except RuntimeError as error:
            raise BackEndUnavailable(f"OpenVINO cannot take this network ({error}): use 'torch'.") from error
        self._compiled, self._compiling, self._own = compiled, threading.Lock(), threading.local()

    def forward(self, pixels: Tensor) -> Tensor:
        """See :class:`BackEnd`."""
        shape = (1, *pixels.shape[1:])
        if getattr(self._own, "shape", None) != shape:
            with self._compiling:
                self._own.request = self._compiled(shape).create_infer_request()
            self._own.shape = shape
        # An answer lies in the request's own memory, which the next call writes again.
        answers = [
            self._own.request.infer([one], share_inputs=True, share_outputs=True)[0].copy()
            for one in pixels.contiguous().numpy()[:, np.newaxis]
        ]
        return torch.from_numpy(np.concatenate(answers) if len(answers) > 1 else answers[0])


def class_probability(logits: Tensor) -> Tensor:
    """Probabilities (N, K, H, W) float32 from logits: softmax over K channels, or for one channel clear and cloud."""
    if logits.shape[1] > 1:
        return logits.float().softmax(dim=1)
    cloud = logits.float().sigmoid()
    return torch.cat([1 - cloud, cloud], dim=1)


def pixel_bytes(bundle: ModelBundle, device: torch.device) -> float:
    """Memory of this machine that each pixel takes on its way through a network, with its preprocessing, at most.

    It is what the widest layer takes and gives in 32 bits. Measured with four calls at once, whatever the back end:
    U-Nets, with their skip connections and copies, stay below the memory that windows are planned for by it.
    """
    widest = [0]

    def note(_: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        widest.append(sum(one.nbytes for one in (*given, answer) if isinstance(one, Tensor)))

    if device.type == "cpu":
        network, example = bundle.network(), _example(bundle)
        for layer in network.modules():
            if not any(layer.children()):
                layer.register_forward_hook(note)
        with torch.inference_mode():
            network(example)
        return _BESIDE_NETWORK + max(widest) / example[0, 0].numel() / float(bundle.card.network.coarsening) ** 2
    return _BESIDE_NETWORK


def import_openvino() -> Any:
    """The module ``openvino``, imported in silence, or :class:`BackEndUnavailable`."""
    import sys

    # Importing OpenVINO reports its use over the network; without its reporter it stays silent.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise BackEndUnavailable("openvino is not installed: pip install 'cloud-assets[openvino]'.") from error
    return openvino


def _example(bundle: ModelBundle) -> Tensor:
    # Height and width must differ, or the exporter takes them for one number.
    return torch.zeros(1, bundle.card.in_channels, _EXAMPLE_SIDE, _EXAMPLE_SIDE + 64)


_log = logging.getLogger(__name__)
# Converting a network takes some seconds, in which PyTorch predicts about this many megapixels.
_WORTH_CONVERTING_MEGAPIXELS = 25.0
# bfloat16 keeps 8 bits of each activation, so single pixels near a probability of one half move by some percent.
_LARGEST_DIFFERENCE = 0.15
_LARGEST_MEAN_DIFFERENCE = 0.01
_PROBE_SIDE = 192  # what six halvings take


def choose_back_end(
    bundle: ModelBundle,
    name: BackEndName = "auto",
    device: str = "auto",
    *,
    parallelism: Parallelism | None = None,
    megapixels: float | None = None,
) -> BackEnd:
    """Makes a model, whose network gives logits of classes for pictures of any size, ready to run.

    Args:
        bundle: The model.
        name: The back end, or ``auto``: on a GPU PyTorch, else the first of OpenVINO, PyTorch (where the processor has
            bfloat16) and ONNX Runtime that is installed and agrees with PyTorch in float32 on a probe. PyTorch itself
            runs in float32 where it disagrees in bfloat16.
        device: As of :func:`cloud_assets.inference.device.choose_device`.
        parallelism: How the processor is shared out; None: by the machine.
        megapixels: How much is going to be predicted; for little, ``auto`` does not convert the network.

    Raises:
        BackEndUnavailable: If the one that is asked for is not installed, cannot take the network or disagrees.
        InvalidRecipe: If there is no such device.
    """
    keep_freed_memory(one_arena=True)
    chosen = choose_device(device)
    share = parallelism or Parallelism.of_machine()
    if chosen.type != "cpu":
        if name not in ("auto", "torch"):
            raise BackEndUnavailable(f"the back end {name!r} runs on the processor only; use 'torch' or device 'cpu'.")
        return TorchBackEnd(bundle, device)
    makers: Mapping[str, Callable[[], BackEnd]] = {
        "openvino": lambda: OpenVinoBackEnd(bundle, share),
        "onnxruntime": lambda: onnx_back_end(bundle, share),
        "torch": lambda: TorchBackEnd(bundle, device),
    }
    if name not in ("auto", "torch"):
        return _verified(makers[name](), bundle, share)
    is_little = megapixels is not None and megapixels < _WORTH_CONVERTING_MEGAPIXELS
    has_bfloat16 = choose_precision("auto", chosen) == "bf16"
    converted = [] if is_little or name == "torch" else ["openvino"] if has_bfloat16 else ["openvino", "onnxruntime"]
    for candidate in [*converted, "torch"]:
        try:
            return _verified(makers[candidate](), bundle, share)
        except BackEndUnavailable as error:
            _log.info("back end %s is not used: %s", candidate, error)
    # A model that half precision is too coarse for.
    return _verified(TorchBackEnd(bundle, device, "32"), bundle, share)


def _verified(back_end: BackEnd, bundle: ModelBundle, parallelism: Parallelism) -> BackEnd:
    """The same back end, if its probabilities on a probe are those of PyTorch in float32."""
    probe = torch.from_numpy(_probe(bundle.card.preprocessing))
    with torch.inference_mode(), torch_threads(parallelism.threads):
        expected, found = (class_probability(network(probe)).cpu() for network in (bundle.network(), back_end))
    difference = (expected - found).abs()
    if not (difference.max() <= _LARGEST_DIFFERENCE and difference.mean() <= _LARGEST_MEAN_DIFFERENCE):
        raise BackEndUnavailable(
            f"{back_end.name} disagrees with PyTorch: probabilities differ by {difference.mean():.3f} in the mean and "
            f"{difference.max():.3f} at most. Use the back end 'torch'."
        )
    return back_end


def _probe(preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """(2, channels, H, W) what preprocessing makes of smooth random pictures with an edge and a patch of nodata."""
    generator = np.random.default_rng(0)
    shape = (2, len(preprocessing.bands))
    coarse = torch.from_numpy(generator.standard_normal((*shape, 6, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=_PROBE_SIDE, mode="bicubic").numpy()
    share = 0.35 + 0.15 * smooth + generator.normal(0, 0.005, smooth.shape).astype(np.float32)
    share[..., _PROBE_SIDE // 2 :] += 0.25
    low, high = preprocessing.clip
    valid = np.ones((2, _PROBE_SIDE, _PROBE_SIDE), bool)
    valid[:, : _PROBE_SIDE // 8, : _PROBE_SIDE // 8] = False
    return preprocessing.normalise((low + (high - low) * share).astype(np.float32), valid)
