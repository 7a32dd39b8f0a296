"""A network exported to ONNX, run by ONNX Runtime on the processor."""

from typing import Any

import torch
from torch import Tensor, nn

from cloud_assets.errors import BackEndUnavailable


def import_onnxruntime() -> Any:
    """The module ``onnxruntime``.

    Raises:
        BackEndUnavailable: If it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackEndUnavailable("onnxruntime is not installed: pip install 'cloud-assets[onnx]'.") from error
    return onnxruntime


class OnnxNetwork(nn.Module):
    """Pixels in, logits out, like the network itself.

    Args:
        content: The ONNX file's content.
        threads: Threads of a call; None: ONNX Runtime decides.

    Raises:
        BackEndUnavailable: If ONNX Runtime is not installed or cannot run the file.
    """

    name = "onnxruntime float32 on cpu"

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        super().__init__()
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # advice about the graph is not for the user
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base class
            raise BackEndUnavailable(f"ONNX Runtime cannot run this file: {str(error)[:300]}. Export again.") from error
        self._session = session
        self._input = session.get_inputs()[0].name

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits.

        Args:
            pixels: (N, C, H, W) float32.

        Returns:
            (N, outputs) float32 or whatever the network's shape is.
        """
        answer = self._session.run(None, {self._input: pixels.float().cpu().contiguous().numpy()})
        return torch.from_numpy(answer[0]).to(pixels.device)
