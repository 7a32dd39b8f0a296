"""Makes torchvision importable beside a torch that its compiled operators were not built for.

torchvision's wheel for Linux is built for CUDA. Beside a CPU-only torch its operators do not load, and ``import
torchvision`` then fails with ``operator torchvision::nms does not exist``; timm, segmentation-models-pytorch, Lightning
and torchmetrics import torchvision and die with it. None of these operators is used here, so it is enough to declare
the two that torchvision's own import expects. On a matched pair this changes nothing.

The packages whose modules import these libraries (``networks``, ``learning``, ``families``) install a hook that does so
at the moment when torchvision is first imported; until then it costs nothing, and torch itself is not imported.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_declared: list[Any] = []  # a torch.library.Library takes its declarations back when it is collected


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing, but is asked first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare_missing_operators()
        return None


def ensure_torchvision() -> None:
    """Makes sure that torchvision can be imported from now on, by whomever."""
    if "torchvision" in sys.modules or any(isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _BeforeTorchvision())


def declare_missing_operators() -> None:
    """Loads torchvision's operators or, where they do not fit this torch, declares those that its import expects."""
    specification = importlib.util.find_spec("torchvision")
    if _declared or specification is None or specification.origin is None:
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
