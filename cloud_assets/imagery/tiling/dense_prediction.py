"""Per-pixel predictions of a scene: windows predicted, blended and yielded as they are finished."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_assets.imagery.tiling.blending import SeamBlender
from cloud_assets.imagery.tiling.pipeline import Infer, WindowReader, WindowResult, predict_windows
from cloud_assets.imagery.tiling.windows import Tiling, Window


@dataclass(frozen=True)
class Block:
    """A part of a scene that is finished."""

    window: Window
    valid: npt.NDArray[np.bool_]
    """(height, width)."""
    values: npt.NDArray[np.float32] | None
    """(K, height, width), of no meaning where not valid; None if no pixel is valid."""


def predict_densely(
    reader: WindowReader,
    tiling: Tiling,
    infer: Infer,
    output: str,
    *,
    batch_size: int = 1,
    workers: int = 1,
    each: Callable[[WindowResult], None] | None = None,
) -> Iterator[Block]:
    """Predicts and blends.

    Args:
        reader: The scene.
        tiling: The grid of windows.
        infer: The model.
        output: Name of the model's output that is blended, (N, K, height, width).
        batch_size: Windows a call of the model.
        workers: Calls of the model at once.
        each: Called with every window's outputs, for those that belong to whole windows.

    Yields:
        Parts of the scene that together cover it exactly once.
    """
    blender = SeamBlender(tiling)
    for result in predict_windows(reader, tiling, infer, batch_size=batch_size, workers=workers):
        if each is not None:
            each(result)
        blended = blender.add(result.position, result.outputs[output] if result.outputs else None)
        window, whole = tiling.final(result.position), tiling.window(result.position)
        if 0 in (window.height, window.width):
            continue
        yield Block(window, result.valid[window.within(whole)], blended)
