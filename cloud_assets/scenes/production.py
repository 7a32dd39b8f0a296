"""Production of a scene's products: rasters, quick-look, page, STAC item and record, in one folder or not at all."""

import json
import re
import shutil
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cloud_assets.errors import InvalidScene
from cloud_assets.families.scene_product import SceneWork
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.writing import (
    legend_colours,
    natural_colours,
    of_codes,
    of_measurements,
    png,
    storage_errors,
    write_cog,
)
from cloud_assets.inference.device import give_back_freed_memory, torch_threads
from cloud_assets.scenes.planning import (
    SceneModels,
    SceneOptions,
    ScenePlan,
    declared_products,
    declared_rasters,
    plan_scene,
)
from cloud_assets.scenes.product_record import RECORD_FILE, STAC_FILE, SceneProducts, refuse_other_files, stac_item
from cloud_assets.storage import atomic_directory, locked
from cloud_assets.version import __version__

_BLOCK_CACHE = 0.25  # of the memory, at most
_LARGE = 25  # megapixels from which windows' memory is given back before files are written; small scenes follow quickly
_MOST_DEATHS = 2
_OTHER_FILES = {"quicklook": "quicklook.png", "page": "index.html", "stac": STAC_FILE}


@dataclass(frozen=True)
class Exhibit:
    """A picture on a scene's page."""

    title: str
    png: bytes
    file: str | None = None  # the product's own file, linked from the title
    note: str = ""  # what dark and bright mean, where there are no codes
    legend: Sequence[tuple[str, str]] = ()  # meaning and colour of each code


def scene_products(
    source: SceneSource,
    models: SceneModels,
    out_dir: Path,
    options: SceneOptions | None = None,
    radar: SceneSource | None = None,
    progress: Callable[[int], object] | None = None,
) -> SceneProducts:
    """Makes the products of a scene in ``out_dir / source.name``; nothing is done if they are up to date.

    The folder appears complete or not at all; a process that is killed leaves the old products and a hidden folder that
    the next run removes. ``progress`` is called with the number of finished pixels.

    Raises:
        InvalidScene: If the folder holds the products of another scene, or files that are no products.
        AlreadyRunning: If another process is making them.
        NoModelForProduct, InvalidData, UnknownBand, InvalidScene, InvalidRecipe: If a wanted product is impossible.
        InvalidData: If a part of the scene cannot be read.
        StorageFull: If the disk is full.
    """
    chosen = options or SceneOptions()
    plan = plan_scene(source, models, chosen, radar)
    directory = out_dir / source.name
    busy = f"another process is making {directory}; wait for it, or write to another folder."
    with locked(out_dir / f".{source.name}.lock", busy):
        finished = _finished(directory, plan, chosen)
        if finished is not None:
            return finished
        # What a killed process left; nobody else is at work on this scene, since its lock is ours.
        left_over = re.compile(rf"\.{re.escape(directory.name)}-[a-z0-9_]{{8}}")
        for path in directory.parent.glob(".*"):
            if left_over.fullmatch(path.name) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        with _deaths_counted(directory):
            return _produce(plan, models, directory, chosen, progress or (lambda _: None))


def deaths(directory: Path) -> int:
    """How many processes in a row have died while they made these products."""
    marks = _marks(directory)
    return marks.stat().st_size if marks.is_file() else 0


def _marks(directory: Path) -> Path:
    return directory.parent / f".{directory.name}.deaths"


@contextmanager
def _deaths_counted(directory: Path) -> Iterator[None]:
    """Counts the processes that die in the block, in a file that is gone after any other end.

    Raises:
        InvalidScene: The last two have died. The next try counts from nothing.
    """
    try:
        if (died := deaths(directory)) >= _MOST_DEATHS:
            raise InvalidScene(
                f"{directory.name}: {died} processes in a row died while they made its products, so it was left out. A "
                "process that needs too much memory is killed without a message: give it more, or a smaller window. "
                "The next run tries it again."
            )
        with _marks(directory).open("ab") as marks:
            marks.write(b"x")
        yield
    finally:
        _marks(directory).unlink(missing_ok=True)


def _finished(directory: Path, plan: ScenePlan, options: SceneOptions) -> SceneProducts | None:
    """Products that are up to date, or None."""
    refuse_other_files(directory, RECORD_FILE, plan.source.location)
    try:
        found = SceneProducts.open(directory)
    except InvalidScene:
        return None
    if found.source != plan.source.address and not options.overwrite:
        raise InvalidScene(
            f"{directory} holds the products of another scene of the same name, {found.source}. Write to another "
            "folder, rename one of the scenes, or replace the products (--overwrite)."
        )
    return found if found.fingerprint == plan.fingerprint and not options.overwrite else None


def _produce(
    plan: ScenePlan, models: SceneModels, directory: Path, options: SceneOptions, progress: Callable[[int], object]
) -> SceneProducts:
    import rasterio

    started = time.monotonic()
    cache = int(_BLOCK_CACHE * options.memory_gigabytes * 1e9)
    settings = {"GDAL_CACHEMAX": cache // 10, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    with atomic_directory(directory) as folder, rasterio.Env(**settings), storage_errors(directory):
        scratch = folder / "scratch"
        scratch.mkdir()
        work = SceneWork(replace(plan.source, cache_bytes=cache), plan.radar, models, options, scratch, progress)
        with torch_threads(work.share.threads):
            for make in dict.fromkeys(step.make for step in plan.steps):
                make(work)
        if plan.source.megapixels > _LARGE:
            give_back_freed_memory()
        products = _record(plan, work, directory)
        kept = {product: draft for product, draft in work.drafts.items() if product in products.files}
        tags = _tags(plan, work)
        threads = max(1, work.share.workers * work.share.threads // len(kept))
        with ThreadPoolExecutor(work.share.workers) as pool:
            scene = pool.submit(lambda: png(natural_colours(plan.source)))
            exhibits = _exhibits(plan, work, products)  # before the drafts get overviews
            list(pool.map(lambda one: write_cog(kept[one], folder / products.files[one], tags, threads), kept))
        exhibits.insert(0, Exhibit("The scene", scene.result()))
        seconds = time.monotonic() - started
        speed = {"seconds": seconds, "megapixels_per_second": plan.source.megapixels / seconds}
        products = replace(products, statistics={**products.statistics, **speed})
        (folder / _OTHER_FILES["quicklook"]).write_bytes(exhibits[0].png)
        (folder / _OTHER_FILES["page"]).write_text(_page(plan.source, products, exhibits), encoding="utf-8")
        titles = {name: declared_rasters()[name].title for name in kept}
        item = json.dumps(stac_item(plan.source, products, kept, titles), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / STAC_FILE).write_text(item, encoding="utf-8")
        products.save(folder)
        shutil.rmtree(scratch)
    return products


def _record(plan: ScenePlan, work: SceneWork, directory: Path) -> SceneProducts:
    declared = declared_products()
    companions = [companion.name for name in plan.products for companion in declared[name].companions]
    return SceneProducts(
        name=plan.source.name,
        directory=directory,
        files={**{product: f"{product}.tif" for product in (*plan.products, *companions)}, **_OTHER_FILES},
        statistics=work.statistics,
        models=plan.models,
        warnings=(*plan.warnings, *work.warnings),
        source=plan.source.address,
        fingerprint=plan.fingerprint,
        back_end=work.back_end,
        attributes=plan.source.attributes,
    )


def _tags(plan: ScenePlan, work: SceneWork) -> dict[str, str]:
    tags = {
        "TIFFTAG_SOFTWARE": f"cloud-assets {__version__}",
        "CLOUD_ASSETS_SCENE": plan.source.name,
        "CLOUD_ASSETS_INSTRUMENT": plan.source.instrument,
        "CLOUD_ASSETS_MODELS": ", ".join(f"{name} {version}" for name, version in plan.models.items()),
        "CLOUD_ASSETS_BACK_END": work.back_end,
        "CLOUD_ASSETS_WARNINGS": " ".join((*plan.warnings, *work.warnings)),
    }
    if plan.source.acquired is not None:
        tags["TIFFTAG_DATETIME"] = plan.source.acquired.strftime("%Y:%m:%d %H:%M:%S")
    return {name: value for name, value in tags.items() if value}


def _exhibits(plan: ScenePlan, work: SceneWork, products: SceneProducts) -> list[Exhibit]:
    exhibits, declared = [], declared_rasters()
    for name, draft in work.drafts.items():
        if name not in products.files:
            continue
        product, form = declared[name], draft.form
        legend = []
        if product.picture is not None:
            picture = product.picture(draft, plan.source)
        elif form.classes:
            picture, colours = of_codes(draft), legend_colours(form.colours)
            legend = [(meaning, colours[code]) for code, meaning in form.classes.items() if code in colours]
        else:
            picture = of_measurements(draft)
        exhibits.append(Exhibit(product.title, png(picture), products.files[name], product.note, legend))
    return exhibits


def _page(source: SceneSource, products: SceneProducts, exhibits: Sequence[Exhibit]) -> str:
    """The page in HTML; pictures are inside, products are linked."""
    statistics = [
        (name.replace("_", " "), f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}")
        for name, value in products.statistics.items()
        if value == value
    ]
    return _rendered()(source=source, products=products, pictures=exhibits, statistics=statistics)


@cache
def _rendered() -> Callable[..., str]:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("cloud_assets.scenes", "."), autoescape=True)
    environment.filters["base64"] = lambda content: b64encode(content).decode()
    return environment.get_template("scene.html.jinja").render
