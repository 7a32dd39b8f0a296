"""Choice of the back end that runs a model: the fastest that is installed and agrees with PyTorch."""

import logging
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from cloud_assets.errors import BackEndUnavailable
from cloud_assets.inference.back_ends import BackEnd, OpenVinoBackEnd, TorchBackEnd, class_probability, onnx_back_end
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import choose_device, choose_precision
from cloud_assets.inference.parallelism import Parallelism, threads_of_each_call
from cloud_assets.inference.process_memory import keep_freed_memory
from cloud_assets.patches.preprocessing import Preprocessing

BackEndName = Literal["auto", "torch", "onnxruntime", "openvino"]

_log = logging.getLogger(__name__)
# Converting a network takes some seconds, in which PyTorch predicts about this many megapixels.
_WORTH_CONVERTING_MEGAPIXELS = 25.0
# bfloat16 keeps 8 bits of each activation, so single pixels near a probability of one half move by some percent.
_LARGEST_DIFFERENCE = 0.15
_LARGEST_MEAN_DIFFERENCE = 0.01
_PROBE_SIDE = 160


def choose_back_end(
    bundle: ModelBundle,
    name: BackEndName = "auto",
    device: str = "auto",
    *,
    parallelism: Parallelism | None = None,
    megapixels: float | None = None,
) -> BackEnd:
    """Makes a model ready to run.

    Args:
        bundle: The model; its network must give logits of classes for pictures of any size.
        name: The back end, or ``auto``: on a GPU PyTorch, else the first of OpenVINO, PyTorch (where the processor has
            bfloat16) and ONNX Runtime that is installed and agrees with PyTorch in float32 on a probe. PyTorch itself
            runs in float32 where it disagrees in bfloat16.
        device: ``auto``, ``cpu`` or ``cuda``.
        parallelism: How the processor is shared out; None: by the machine.
        megapixels: How much is going to be predicted; for little, ``auto`` does not convert the network.

    Returns:
        The back end.

    Raises:
        BackEndUnavailable: If the one that is asked for is not installed, cannot take the network or disagrees.
        InvalidRecipe: If there is no such device.
    """
    keep_freed_memory()
    chosen = choose_device(device)
    share = parallelism or Parallelism.of_machine()
    if chosen.type == "cuda":
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
    with torch.inference_mode(), threads_of_each_call(parallelism):
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
