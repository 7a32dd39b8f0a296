"""Makes torchvision importable beside a torch that its compiled operators were not built for.

torchvision's wheel for Linux is built for CUDA. Beside a CPU-only torch its operators do not load, and ``import
torchvision`` then dies with ``operator torchvision::nms does not exist``; timm, segmentation-models-pytorch and
torchmetrics import torchvision and die with it. None of these operators is used here, so it is enough to declare the
two that torchvision's own import expects. On a matched pair this changes nothing.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

_declared: list[Any] = []  # a torch.library.Library takes its declarations back when it is collected


def ensure_torchvision() -> None:
    """Prepares ``import torchvision``; to be called before libraries that import it. Costs nothing the second time."""
    if "torchvision" in sys.modules or _declared:
        return
    specification = importlib.util.find_spec("torchvision")
    if specification is None or specification.origin is None:
        return
    import torch

    for library in Path(specification.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return
    operators: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(operators)
