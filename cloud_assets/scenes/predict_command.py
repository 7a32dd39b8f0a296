"""The bodies of ``cloud-assets predict`` and ``composite``: a progress bar, a line a scene, an exit code."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_assets.errors import CloudAssetsError, InvalidScene
from cloud_assets.imagery.formats.scene_formats import open_scene, scene_paths
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.progress import progress_bar
from cloud_assets.scenes.batch import SceneBatch, SceneOutcome, attempt
from cloud_assets.scenes.composite import Method, Observation, date_of, make_composite
from cloud_assets.scenes.planning import SceneOptions, known_products
from cloud_assets.scenes.product_record import SceneProducts, write_collection

if TYPE_CHECKING:
    from rich.console import Console

SUCCESS = 0
SOME_FAILED = 1


def run_batch(batch: SceneBatch, console: "Console") -> int:
    """Processes scenes and tells how it goes; the exit code is 0 if all of them have their products, else 1."""
    from tqdm import tqdm

    code = SUCCESS
    with progress_bar("Scenes", batch.megapixels * 1e6, "pixels", unit_scale=True) as bar:
        for outcome in batch.run(bar.update):
            with tqdm.external_write_mode():
                console.print(_line(outcome), soft_wrap=True, markup=False, highlight=False)
            if outcome.error is not None:
                code = SOME_FAILED
    write_collection(batch.out_dir)
    return code


def run_composite(
    scenes: Sequence[Path | str],
    bundles: Callable[[], Sequence[ModelBundle]],
    out: Path,
    options: SceneOptions,
    console: "Console",
    *,
    method: Method,
    products: Path | None,
    bands: Sequence[str] | None,
    instrument: str | None,
    kept: Sequence[str] | None,
    resolution: float | None,
) -> int:
    """Makes the masks that are missing, then the composite, and tells how it goes; exit codes as of :func:`run_batch`.

    Raises:
        InvalidScene: If no scene could be masked, or they do not go together.
    """
    masks = products or out / "scenes"
    paths = [one for path in scenes for one in scene_paths(path)]
    for one in paths:  # before any mask is made
        if not isinstance(source := attempt(open_scene, one, bands, instrument), Exception):
            date_of(source)
    opened = {one: _masked(one, masks, bands, instrument) if products else None for one in paths}
    code, missing = SUCCESS, [one for one, found in opened.items() if found is None]
    if missing:
        batch = SceneBatch(missing, bundles(), masks, options, bands=bands, instrument=instrument)
        code = run_batch(batch, console)
        opened |= {one: _masked(one, masks, bands, instrument) for one in missing}
    observations = [found for found in opened.values() if found is not None]
    if not observations:
        raise InvalidScene("none of the scenes could be masked: see the reasons above.")
    with progress_bar("Composite", observations[0].source.megapixels * 1e6, "pixels", unit_scale=True) as bar:
        settings: dict[str, Any] = {"method": method, "bands": kept, "resolution_metres": resolution}
        made = make_composite(observations, out / "composite", **settings, progress=bar.update)
    console.print(
        f"{made.directory / 'composite.tif'}: {method} of {len(observations)} scenes, {100 * made.covered:.1f} % of "
        f"the pixels, {made.clear_dates:.1f} clear dates on average",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    return code


def _masked(path: Path | str, masks: Path, bands: Sequence[str] | None, instrument: str | None) -> Observation | None:
    """A scene with its mask, where that was made of this very scene."""
    try:
        source = open_scene(path, bands, instrument)
        found = next(
            products
            for folder in sorted(masks.glob(f"{source.name}*"))
            if (products := SceneProducts.open(folder)).source == source.address
        )
    except (CloudAssetsError, StopIteration):
        return None
    return Observation(source, found.paths["validity"]) if "validity" in found.paths else None


def parsed_products(text: str | None) -> tuple[str, ...] | None:
    """The products in a comma-separated list.

    Raises:
        InvalidRecipe: If there is no such product.
    """
    wanted = parsed_bands(text)
    return None if wanted is None else known_products(wanted or [repr(text)])


def parsed_bands(text: str | None) -> Sequence[str] | None:
    """The band names in a comma-separated list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _line(outcome: SceneOutcome) -> str:
    if outcome.products is None:
        return f"{outcome.path}: failed: {str(outcome.error).removeprefix(f'{outcome.path}: ')}"
    products = outcome.products
    if not products.is_new:
        return f"{outcome.path}: up to date in {products.directory}"
    found = products.statistics
    parts = [f"{products.directory}"]
    if "cloud_percentage" in found:
        parts.append(f"{found['cloud_percentage']:.1f} % cloud")
    parts.append(f"{found['seconds']:.1f} s, by {' and '.join(products.models)}")
    lines = [f"{outcome.path}: {', '.join(parts)}", *(f"  note: {warning}" for warning in products.warnings)]
    return "\n".join(lines)
