"""Every error that a user of Cloud Assets can meet.

Each says what is wrong, where (file, band, sample) and what to do about it. All derive from
:class:`CloudAssetsError`, so a caller can catch the whole family; each also derives from the builtin exception that it
specialises.
"""

from collections.abc import Sequence


class CloudAssetsError(Exception):
    """Base class of all errors that Cloud Assets raises on purpose."""


class DataFolderMissing(CloudAssetsError, FileNotFoundError):
    """A data set was not found where it was expected."""


class InvalidRaster(CloudAssetsError, ValueError):
    """A raster file is truncated, is no raster, or has the wrong shape or data type."""


class InvalidRecipe(CloudAssetsError, ValueError):
    """A configuration value makes no sense, alone or together with another."""


class TooManySkipped(CloudAssetsError, ValueError):
    """More items of a data set were unusable than the stated tolerance allows.

    Args:
        what: The data set or step that skipped them.
        skipped: One "item: reason" line an unusable item.
        total: How many items were looked at.
        tolerance: The share of ``total`` that may be skipped.
    """

    def __init__(self, what: str, skipped: Sequence[str], total: int, tolerance: float) -> None:
        shown = "\n  ".join(skipped[:20])
        more = f"\n  … and {len(skipped) - 20} more" if len(skipped) > 20 else ""
        super().__init__(
            f"{what}: {len(skipped)} of {total} items are unusable, more than the tolerated share of {tolerance:.1%}:\n"
            f"  {shown}{more}\nMend or remove these files, or raise max_skipped_fraction if you can do without them."
        )
