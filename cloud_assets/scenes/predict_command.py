"""The body of ``cloud-assets predict``: a progress bar, a line a scene, an exit code."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloud_assets.errors import InvalidRecipe
from cloud_assets.scenes.batch import SceneBatch, SceneOutcome
from cloud_assets.scenes.options import declared_products

if TYPE_CHECKING:
    from rich.console import Console

SUCCESS = 0
SOME_FAILED = 1


def run_batch(batch: SceneBatch, console: "Console") -> int:
    """Processes scenes and tells how it goes.

    Returns:
        The exit code: 0 if all scenes have their products, else 1.
    """
    from tqdm import tqdm

    code = SUCCESS
    form = "{l_bar}{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}, {rate_fmt}]"
    with tqdm(total=batch.megapixels, unit="MP", bar_format=form, disable=None) as bar:

        def progress(pixels: int) -> None:
            bar.update(pixels / 1e6)

        for outcome in batch.run(progress):
            with tqdm.external_write_mode():
                console.print(_line(outcome), soft_wrap=True, markup=False, highlight=False)
            if outcome.error is not None:
                code = SOME_FAILED
    return code


def parsed_products(text: str | None) -> tuple[str, ...] | None:
    """The products in a comma-separated list.

    Raises:
        InvalidRecipe: If there is no such product.
    """
    if text is None:
        return None
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    known = declared_products()
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise InvalidRecipe(f"no such product: {', '.join(unknown) or repr(text)}; there are {', '.join(known)}.")
    return tuple(product for product in known if product in wanted)


def parsed_bands(text: str | None) -> Sequence[str] | None:
    """The band names in a comma-separated list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _line(outcome: SceneOutcome) -> str:
    if outcome.products is None:
        return f"{outcome.path}: failed: {outcome.error}"
    products = outcome.products
    if not products.is_new:
        return f"{outcome.path}: up to date in {products.directory}"
    found = products.statistics
    parts = [f"{products.directory}"]
    if "cloud_percentage" in found:
        parts.append(f"{found['cloud_percentage']:.1f} % cloud")
    parts.append(f"{found['seconds']:.1f} s, {found['megapixels_per_second']:.2f} MP/s")
    lines = [f"{outcome.path}: {', '.join(parts)}", *(f"  note: {warning}" for warning in products.warnings)]
    return "\n".join(lines)
