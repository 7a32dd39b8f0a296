"""All products of a scene, in one folder that appears when it is complete."""

import re
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from cloud_assets.errors import AlreadyRunning, InvalidScene
from cloud_assets.imagery.formats.scene_formats import open_scene, radar_beside
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.writing.pictures import (
    natural_colours,
    of_codes,
    of_measurements,
    of_optical,
    of_reflectance,
    png,
)
from cloud_assets.imagery.writing.raster_files import storage_errors, write_cog
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.planning import ScenePlan, plan_scene
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.scenes.production import Progress, SceneWork
from cloud_assets.scenes.scene_models import SceneModels
from cloud_assets.scenes.scene_page import Exhibit, scene_page
from cloud_assets.scenes.stac import STAC_FILE, TITLES, stac_item
from cloud_assets.storage import atomic_directory

_BLOCK_CACHE_BYTES = 256 << 20
_OTHER_FILES = {"quicklook": "quicklook.png", "page": "index.html", "stac": STAC_FILE}


def predict_scene(
    path: Path,
    models: Sequence[ModelBundle] | SceneModels,
    out_dir: Path,
    options: SceneOptions | None = None,
    *,
    bands: Sequence[str] | None = None,
    instrument: str | None = None,
    radar: Path | None = None,
) -> SceneProducts:
    """Makes the products of one scene on disk.

    Args:
        path: The scene, in any format of :func:`cloud_assets.imagery.formats.scene_formats.open_scene`.
        models: Model bundles, or loaded models; load them once for many scenes.
        out_dir: The products go to the folder of the scene's name in it.
        options: What is wanted; None: all that the models can make.
        bands: Names of a raster file's bands, where it does not tell.
        instrument: The instrument, where the file does not tell.
        radar: A Sentinel-1 scene of the same place, for the cloud-free estimate; None: the one that lies beside the
            scene as ``<scene>_s1.tif``, if there is one.

    Returns:
        The products.

    Raises:
        CloudAssetsError: As :func:`open_scene` and :func:`scene_products`.
    """
    chosen = options or SceneOptions()
    source = open_scene(path, bands, instrument)
    beside = radar or radar_beside(path)
    radar_source = None if beside is None else open_scene(beside, instrument="sentinel1_grd")
    loaded = models if isinstance(models, SceneModels) else SceneModels(models, chosen, megapixels_of(source))
    return scene_products(source, loaded, out_dir, chosen, radar_source)


def scene_products(
    source: SceneSource,
    models: SceneModels,
    out_dir: Path,
    options: SceneOptions | None = None,
    radar: SceneSource | None = None,
    progress: Progress | None = None,
) -> SceneProducts:
    """Makes the products of a scene; nothing is done if they are up to date.

    The folder appears complete or not at all; a process that is killed leaves the old products and a hidden folder that
    the next run removes.

    Args:
        source: The scene.
        models: The models.
        out_dir: The products go to ``out_dir / source.name``.
        options: What is wanted.
        radar: A Sentinel-1 scene of the same place.
        progress: Called with the number of finished pixels.

    Returns:
        The products.

    Raises:
        InvalidScene: If the folder holds the products of another scene.
        AlreadyRunning: If another process is making them.
        NoModelForProduct, InvalidData, UnknownBand, InvalidScene, InvalidRecipe: If a wanted product is impossible.
        InvalidData: If a part of the scene cannot be read.
        StorageFull: If the disk is full.
    """
    from filelock import FileLock, Timeout

    chosen = options or SceneOptions()
    plan = plan_scene(source, models, chosen, radar)
    out_dir.mkdir(parents=True, exist_ok=True)
    directory = out_dir / source.name
    lock = FileLock(out_dir / f".{source.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AlreadyRunning(
            f"another process is making {directory}; wait for it, or write to another folder."
        ) from error
    try:
        finished = _finished(directory, plan, chosen)
        if finished is not None:
            return finished
        _remove_left_over(directory)
        return _make(plan, models, directory, chosen, progress or _no_progress)
    finally:
        lock.release()


def megapixels_of(source: SceneSource) -> float:
    """Pixels of a scene, in millions."""
    return source.grid.height * source.grid.width / 1e6


def _finished(directory: Path, plan: ScenePlan, options: SceneOptions) -> SceneProducts | None:
    """Products that are up to date, or None."""
    try:
        found = SceneProducts.open(directory)
    except InvalidScene:
        return None
    if Path(found.source) != Path(plan.source.location).absolute() and not options.overwrite:
        raise InvalidScene(
            f"{directory} holds the products of another scene of the same name, {found.source}. Write to another "
            "folder, rename one of the scenes, or replace the products (--overwrite)."
        )
    return found if found.fingerprint == plan.fingerprint and not options.overwrite else None


def _remove_left_over(directory: Path) -> None:
    """Removes what a killed process left; nobody else is at work on this scene, since its lock is ours."""
    pattern = re.compile(rf"\.{re.escape(directory.name)}-[a-z0-9_]{{8}}")
    for path in directory.parent.glob(".*"):
        if pattern.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _make(
    plan: ScenePlan, models: SceneModels, directory: Path, options: SceneOptions, progress: Progress
) -> SceneProducts:
    import rasterio

    started = time.monotonic()
    settings = {"GDAL_CACHEMAX": _BLOCK_CACHE_BYTES, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    with atomic_directory(directory) as folder, rasterio.Env(**settings), storage_errors(directory):
        scratch = folder / "scratch"
        scratch.mkdir()
        work = SceneWork(plan, models, options, scratch, progress)
        work.run()
        products = _record(plan, work, directory)
        kept = {product: work.drafts[product] for product in products.files if product in work.drafts}
        exhibits = _exhibits(plan, work, products)
        tags = _tags(plan, work)
        with ThreadPoolExecutor(work.share.workers) as pool:
            writing = [
                pool.submit(write_cog, draft, folder / products.files[product], tags) for product, draft in kept.items()
            ]
            for one in writing:
                one.result()
        seconds = time.monotonic() - started
        speed = {"seconds": seconds, "megapixels_per_second": plan.megapixels / seconds}
        products = replace(products, statistics={**products.statistics, **speed})
        (folder / _OTHER_FILES["quicklook"]).write_bytes(exhibits[0].png)
        page = scene_page(plan.source, products, exhibits)
        (folder / _OTHER_FILES["page"]).write_text(page, encoding="utf-8")
        _write_json(folder / STAC_FILE, stac_item(plan.source, products, kept))
        products.save(folder)
        shutil.rmtree(scratch)
    return products


def _record(plan: ScenePlan, work: SceneWork, directory: Path) -> SceneProducts:
    made = [*plan.products, *(["synthetic"] if "cloud_free" in plan.products else [])]
    return SceneProducts(
        name=plan.source.name,
        directory=directory,
        files={**{product: f"{product}.tif" for product in made}, **_OTHER_FILES},
        statistics=work.statistics,
        models=plan.models,
        warnings=(*plan.warnings, *work.warnings),
        source=str(Path(plan.source.location).absolute()),
        fingerprint=plan.fingerprint,
        back_end=work.back_end,
        attributes=plan.source.attributes,
    )


def _tags(plan: ScenePlan, work: SceneWork) -> dict[str, str]:
    import cloud_assets

    tags = {
        "TIFFTAG_SOFTWARE": f"cloud-assets {cloud_assets.__version__}",
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
    exhibits = [Exhibit("The scene", png(natural_colours(plan.source)))]
    for product, draft in work.drafts.items():
        if product not in products.files:
            continue
        file, names, colours, note = products.files[product], draft.form.classes, draft.form.colours, ""
        if product == "cloud_free":
            picture, note = of_reflectance(draft, plan.source), "partly synthetic"
        elif product == "optical":
            picture, note = of_optical(draft), "predicted from radar: no pixel of it was observed"
        elif product in ("probability", "coverage"):
            picture, note = of_measurements(draft, 0, 100, band=-1), "dark 0 %, bright 100 %"
            names = {}
        elif names:
            picture = of_codes(draft)
        else:
            picture, note = of_measurements(draft), "dark usual, bright unusual"
        exhibits.append(Exhibit(TITLES[product], png(picture), file, note, names, colours))
    return exhibits


def _write_json(path: Path, content: dict[str, object]) -> None:
    import json

    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def _no_progress(pixels: int) -> None:
    """Tells nobody."""
