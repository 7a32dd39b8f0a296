"""Formatting of names and numbers for reports."""

import math
from typing import Any

_SPELLINGS = {"iou": "IoU", "miou": "mIoU", "rgb": "RGB", "nir": "NIR"} | {
    word: word.upper() for word in ("f1", "auroc", "psnr", "ssim", "rmse", "mae", "ndvi", "tp", "fp", "fn", "tn", "id")
}


def format_number(value: Any) -> str:
    """A table cell as text: integers with thin spaces, fractions with four digits, a missing number as a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def readable(name: str) -> str:
    """A name as a heading: ``per_scene`` is ``Per scene``, ``validation_iou`` is ``Validation IoU``."""
    text = " ".join(_SPELLINGS.get(word, word) for word in name.split("_") if word)
    return text if text.split(" ")[0] in _SPELLINGS.values() else text[:1].upper() + text[1:]
