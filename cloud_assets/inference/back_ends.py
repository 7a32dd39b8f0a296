"""Libraries that run a network: PyTorch, ONNX Runtime, OpenVINO; each can be called from several threads at once."""

import threading
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cloud_assets.errors import BackEndUnavailable
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import autocast, choose_device, choose_precision
from cloud_assets.inference.onnx_export import to_onnx
from cloud_assets.inference.onnx_network import OnnxNetwork, import_onnxruntime
from cloud_assets.inference.parallelism import Parallelism

_EXAMPLE_SIDE = 128
_OPSET = 18


class BackEnd(Protocol):
    """A module that stands in for a network and can be called from several threads at once.

    It takes preprocessed pixels (N, C, H, W) and returns logits (N, K, H, W) in float32.
    """

    name: str
    """Library and arithmetic, such as "openvino bfloat16 on cpu"."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits of preprocessed pixels."""


class TorchBackEnd(nn.Module):
    """PyTorch: channels-last, bfloat16 where the processor or GPU has it; the same arithmetic as the predictors'.

    Args:
        bundle: The model.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        precision: ``32`` for single precision also where half is there.
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

    Args:
        bundle: The model.
        parallelism: How the processor is shared out.

    Raises:
        BackEndUnavailable: If it is not installed or cannot take the network.
    """
    import_onnxruntime()  # before the conversion, which takes seconds
    return OnnxNetwork(to_onnx(bundle.network(), _example(bundle).numpy(), _OPSET, any_size=True), parallelism.threads)


class OpenVinoBackEnd(nn.Module):
    """OpenVINO on the processor, bfloat16 where it has it.

    Args:
        bundle: The model.
        parallelism: How the processor is shared out.

    Raises:
        BackEndUnavailable: If it is not installed or cannot take the network.
    """

    def __init__(self, bundle: ModelBundle, parallelism: Parallelism) -> None:
        super().__init__()
        openvino = import_openvino()
        core = openvino.Core()
        has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bfloat16 else "f32",
            "NUM_STREAMS": parallelism.workers,
            "INFERENCE_NUM_THREADS": parallelism.workers * parallelism.threads,
        }
        try:
            model = openvino.convert_model(bundle.network(), example_input=_example(bundle))
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise BackEndUnavailable(f"OpenVINO cannot take this network ({error}): use 'torch'.") from error
        self.name = f"openvino {'bfloat16' if has_bfloat16 else 'float32'} on cpu"
        self._own = threading.local()

    def forward(self, pixels: Tensor) -> Tensor:
        """See :class:`BackEnd`."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        # The result lies in the request's own memory, which the thread's next call writes again.
        return torch.from_numpy(np.array(self._own.request.infer([pixels.contiguous().numpy()])[0]))


def class_probability(logits: Tensor) -> Tensor:
    """Probabilities (N, K, H, W) float32 from logits: softmax over K channels, or for one channel clear and cloud."""
    if logits.shape[1] > 1:
        return logits.float().softmax(dim=1)
    cloud = logits.float().sigmoid()
    return torch.cat([1 - cloud, cloud], dim=1)


def import_openvino() -> Any:
    """The module ``openvino``, imported in silence.

    Raises:
        BackEndUnavailable: If it is not installed.
    """
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
    return torch.zeros(1, bundle.card.in_channels, _EXAMPLE_SIDE, _EXAMPLE_SIDE + 32)
