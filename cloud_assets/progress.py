"""Progress bars, all in one style, on a terminal only: in a file or a pipe every refresh would be a line of its own."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(
    title: str, total: float, unit: str, shown: bool = True, count: str = "{n_fmt}/{total_fmt} {unit}", **more: Any
) -> "tqdm[Any]":
    """A bar that shows share, count, time gone and time left, and goes away at its end.

    ``count`` is what stands between share and time; ``more`` are further arguments of ``tqdm``.
    """
    from tqdm import tqdm

    form = "  {desc} {bar:20} {percentage:3.0f} %  " + count + "  {elapsed}, {remaining} left"
    hidden = None if shown else True  # None: shown on a terminal
    more |= {"leave": False, "dynamic_ncols": True}
    return tqdm(desc=title, total=total, unit=unit, disable=hidden, bar_format=form, **more)
