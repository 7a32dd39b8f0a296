"""Every error that a user of Cloud Assets can meet.

Each says what is wrong, where (file, band, sample) and what to do about it. All derive from
:class:`CloudAssetsError`, so a caller can catch them together; each also derives from the builtin exception that it
specialises. A class of its own is what somebody catches or reacts to differently; the message tells the rest.
"""

import re
from collections.abc import Sequence


class CloudAssetsError(Exception):
    """Base class of all errors that Cloud Assets raises on purpose."""


class DataNotFound(CloudAssetsError, FileNotFoundError):
    """A data set, or an asset that a step needs, is not where it was expected."""


class InvalidData(CloudAssetsError, ValueError):
    """A file, archive, data set, patch store or array is damaged, incomplete, contradictory or of the wrong shape."""


class UnknownBand(CloudAssetsError, KeyError):
    """A band name that an instrument does not have."""

    def __init__(self, name: str, instrument: str, known: Sequence[str]) -> None:
        super().__init__(f"{instrument} has no band {name!r}. It has: {', '.join(known)}.")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the message in quotes


class InvalidRecipe(CloudAssetsError, ValueError):
    """A configuration value makes no sense, alone or together with another or with the data."""


class NoUsablePatches(CloudAssetsError, ValueError):
    """There is no patch, no labelled pixel, or not the bands that learning or evaluating needs."""


class InvalidModel(CloudAssetsError, ValueError):
    """A model's card or weights are missing, damaged, of another version, or do not belong together."""


class TrainingFailed(CloudAssetsError, RuntimeError):
    """A training diverged or collapsed, a study's trials all failed, or a process that they need ended."""


class InvalidReport(CloudAssetsError, ValueError):
    """An evaluation, comparison or other report cannot be read, or cannot be compared with another."""


class InvalidScene(CloudAssetsError, ValueError):
    """A file or folder is no scene that can be read, or does not say what its bands, instrument or level are."""


class NoModelForProduct(CloudAssetsError, ValueError):
    """A product was asked for that none of the given models can make from this scene."""


class BackEndUnavailable(CloudAssetsError, RuntimeError):
    """An inference back end is not installed, or its results differ from those of PyTorch."""


class NoChampion(CloudAssetsError, ValueError):
    """No model is good enough to be its task's champion, or none that could be approved or returned to."""


class AlreadyRunning(CloudAssetsError, RuntimeError):
    """Another process is doing the same at the moment."""


class StorageFull(CloudAssetsError, OSError):
    """The disk ran full; nothing half-written is left behind."""


class SourceUnreachable(CloudAssetsError, ConnectionError):
    """A public data set, a database or an object store cannot be reached: no network, no server, or it refuses."""


class TrackingUnavailable(CloudAssetsError, ConnectionError):
    """The MLflow server or store does not answer; what was trained is kept on disk."""


def too_many_skipped(what: str, skipped: Sequence[str], total: int, tolerance: float) -> InvalidData:
    """The error for more unusable items than the ``tolerance``, a share of ``total``, allows.

    ``what`` is the data set or step that skipped them; ``skipped`` has one "item: reason" line for each.
    """
    alike: dict[str, list[str]] = {}
    for item in skipped:
        reason = re.sub(r"\S*/\S*", "", item.partition(": ")[2] or item)  # which file it is makes no other reason
        alike.setdefault(reason, []).append(item)
    lines = [f"{ones[0]}{f' (and {len(ones) - 1} more like it)' * (len(ones) > 1)}" for ones in alike.values()]
    shown = "\n  ".join(lines[:20])
    more = f"\n  … and {len(lines) - 20} more" if len(lines) > 20 else ""
    return InvalidData(
        f"{what}: {len(skipped)} of {total} items are unusable, more than the tolerated share of {tolerance:.1%}:\n"
        f"  {shown}{more}\nMend or remove these files, or raise max_skipped_fraction if you can do without them."
    )
