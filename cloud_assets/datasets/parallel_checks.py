"""Checks of thousands of files in a pool of threads: unusable ones are listed instead of fatal."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cloud_assets.datasets.catalog import Skipped
from cloud_assets.errors import CloudAssetsError

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_all(
    items: Sequence[Item],
    check: Callable[[Item], Result],
    name: Callable[[Item], str],
    what: str,
    progress: bool,
) -> tuple[list[Result], list[Skipped]]:
    """Applies a check to every item in a pool of threads, in order.

    Args:
        items: What to look at.
        check: Returns what it found, or raises a :class:`CloudAssetsError` that says why the item is unusable.
        name: How to call an item in the list of skipped ones.
        what: Label of the progress bar.
        progress: Whether to show the bar.

    Returns:
        The findings of the usable items, and the unusable ones with their reasons.
    """
    found: list[Result] = []
    skipped: list[Skipped] = []

    def attempt(item: Item) -> Result | Skipped:
        try:
            return check(item)
        except CloudAssetsError as error:
            return Skipped(name(item), str(error))

    workers = min(8, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        for outcome in with_progress(pool.map(attempt, items), len(items), what, progress):
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
            else:
                found.append(outcome)
    return found, skipped


def with_progress(items: Iterable[Item], total: int, what: str, progress: bool, unit: str = "files") -> Iterable[Item]:
    """Shows a progress bar while the items pass by."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, unit=f" {unit}", disable=not progress)
