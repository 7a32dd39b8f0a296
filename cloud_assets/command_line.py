"""The command ``cloud-assets``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from cloud_assets.errors import CloudAssetsError, InvalidRecipe
from cloud_assets.lifecycle.models_command import app as models_app
from cloud_assets.log_file import keep_log
from cloud_assets.storage import atomic_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloud_assets.families.classification.coverage_labels import CoverageClasses
    from cloud_assets.inference.bundle import ModelBundle

Model = TypeVar("Model")
_HELP = "Machine learning for clouds in satellite imagery."
# Without rich, help comes in two thirds of the time.
app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.add_typer(models_app, name="models")
_CONSOLE = Console()


@app.command()
def sample(
    directory: Annotated[Path, typer.Argument(help="Folder to write the data sets into.")],
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set; may be given several times.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    scale: Annotated[float, typer.Option(help="Size relative to the embedded sample.")] = 1.0,
) -> None:
    """Write small synthetic data sets. They are in the original data sets' own formats."""
    from cloud_assets.datasets.samples.sample_writer import WRITERS, write_sample

    written = write_sample(directory, dataset or tuple(WRITERS), scale=scale, seed=seed)
    for one in written:
        _CONSOLE.print(f"[bold]{one.dataset}[/bold]: {one.contents} ({one.megabytes:.0f} MB, {one.seconds:.0f} s)")
    _CONSOLE.print(
        f"\nAll pixels are simulated. To use them:\n  export CLOUD_ASSETS_DATA={directory.absolute()}", soft_wrap=True
    )


@app.command()
def predict(
    scenes: Annotated[
        list[str],
        typer.Argument(help="GeoTIFF, Sentinel-2 .SAFE (or .zip), Landsat folder, STAC item, collection, or address."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the products, one folder a scene.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="models:/<task>@<alias>, a model folder, or the model for cloud masks that comes with the package: "
            "simulation, simulation-fast (coarser), simulation-large (slower); several times. Default: the tasks' "
            "champions that learnt from real data; cloud masks without one: simulation."
        ),
    ] = None,
    products: Annotated[
        list[str] | None, typer.Option(help="Comma-separated or several times, e.g. mask,probability. Default: all.")
    ] = None,
    bands: Annotated[str | None, typer.Option(help="Bands of a raster file in order, e.g. red,green,blue,nir.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Instrument of a raster file, e.g. landsat8_l1.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="Reflectance a number of a raster file, e.g. 0.0001. Default: as it tells.")
    ] = None,
    offset: Annotated[float | None, typer.Option(help="Added to it, in reflectance: -0.1 for -1000 numbers.")] = None,
    radar: Annotated[
        list[str] | None, typer.Option(help="Sentinel-1 scene of the first, second … scene. Default: <scene>_s1.tif.")
    ] = None,
    operating_point: Annotated[
        str | None,
        typer.Option(help="sensitive (finds all cloud), balanced or strict (is sure). Default: the model's."),
    ] = None,
    shadow_geometry: Annotated[bool, typer.Option(help="Call shadows clear that no cloud can cast.")] = True,
    resolution: Annotated[float | None, typer.Option(help="Work at this coarser resolution, metres.")] = None,
    buffer: Annotated[float, typer.Option(help="Unusable surroundings of clouds and shadows, metres.")] = 150.0,
    window: Annotated[int, typer.Option(help="Largest side of a window, pixels.")] = 1024,
    overlap: Annotated[int, typer.Option(help="Smallest overlap of windows, pixels.")] = 32,
    back_end: Annotated[str, typer.Option(help="auto, torch, onnxruntime or openvino.")] = "auto",
    device: Annotated[str, typer.Option(help="auto (an NVIDIA GPU if there is one), cpu, cuda or mps.")] = "auto",
    batch_megapixels: Annotated[
        float, typer.Option(help="Pixels that go through a network at once, millions: more for a GPU.")
    ] = 0.3,
    memory: Annotated[float, typer.Option(help="Memory over the model, GB: sets size and number of windows.")] = 1.0,
    test_time_augmentation: Annotated[bool, typer.Option(help="Average over flips; four times the work.")] = False,
    accept_other_level: Annotated[bool, typer.Option(help="Apply models across processing levels.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Make products again that are up to date.")] = False,
) -> None:
    """Make masks and other products of scenes. They may have any size; exit code 1 if a scene failed."""
    from cloud_assets.imagery.formats.names import located
    from cloud_assets.imagery.formats.scaling import stated_by_user
    from cloud_assets.scenes.batch import SceneBatch
    from cloud_assets.scenes.planning import SceneOptions
    from cloud_assets.scenes.predict_command import parsed_bands, parsed_products, run_batch

    options = _validated(
        SceneOptions,
        products=parsed_products(",".join(products) if products else None),
        operating_point=operating_point,
        shadow_geometry=shadow_geometry,
        resolution_metres=resolution,
        validity_buffer_metres=buffer,
        window=window,
        overlap=overlap,
        back_end=back_end,
        device=device,
        batch_megapixels=batch_megapixels,
        memory_gigabytes=memory,
        test_time_augmentation=test_time_augmentation or None,
        accept_other_level=accept_other_level,
        overwrite=overwrite,
    )
    batch = SceneBatch(
        [located(scene) for scene in scenes],
        _bundles(model),
        out,
        options,
        bands=parsed_bands(bands),
        instrument=instrument,
        scaling=stated_by_user(scale, offset),
        radar=[located(one) for one in radar or ()],
    )
    raise typer.Exit(run_batch(batch, _CONSOLE))


@app.command()
def composite(
    scenes: Annotated[list[str], typer.Argument(help="Scenes of one place at several dates, as for predict.")],
    out: Annotated[Path, typer.Option(help="Folder for the composite; masks go to its folder scenes.")],
    method: Annotated[
        Literal["median", "medoid", "latest"], typer.Option(help="Of each band, a whole observation, or the last.")
    ] = "median",
    model: Annotated[list[str] | None, typer.Option(help="As for predict. Default: the champions.")] = None,
    products: Annotated[
        Path | None, typer.Option(help="Folder of products made before; masks that are missing are made there.")
    ] = None,
    bands: Annotated[str | None, typer.Option(help="Bands of raster files in order.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Instrument of raster files.")] = None,
    kept: Annotated[str | None, typer.Option(help="Bands of the composite, e.g. red,green,blue. Default: all.")] = None,
    resolution: Annotated[float | None, typer.Option(help="Metres. Default: the first scene's.")] = None,
    buffer: Annotated[float, typer.Option(help="Unusable surroundings of clouds and shadows, metres.")] = 150.0,
) -> None:
    """Make a cloud-free picture of several dates. With the number of clear dates and the date of each pixel."""
    from cloud_assets.imagery.formats.names import located
    from cloud_assets.scenes.planning import SceneOptions
    from cloud_assets.scenes.predict_command import parsed_bands, run_composite

    options = SceneOptions(validity_buffer_metres=buffer, products=("mask", "validity"))
    code = run_composite(
        [located(scene) for scene in scenes],
        lambda: _bundles(model),
        out,
        options,
        _CONSOLE,
        method=method,
        products=products,
        bands=parsed_bands(bands),
        instrument=instrument,
        kept=parsed_bands(kept),
        resolution=resolution,
    )
    raise typer.Exit(code)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="Products of a scene, a composite, or <task>/<variant>_report.")],
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for any that is free.")] = 8090,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser.")] = False,
) -> None:
    """Show a scene or a report in the browser. Products are its layers; served at 127.0.0.1 only."""
    from cloud_assets.scenes.viewer import serve

    say = f"[bold]{escape(str(folder))}[/bold]: {{}} (Ctrl+C ends it)"
    serve(folder, port, lambda address: _CONSOLE.print(say.format(address), soft_wrap=True), opens=not no_open)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="<task>/<variant>_report, models:/<task>/<version> or <task>@<alias>.")],
    second: Annotated[str, typer.Argument(help="The other one, of the same task and test split.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("comparison.html"),
) -> None:
    """Compare two models patch by patch. Writes one HTML page, with the interval of their difference."""
    from cloud_assets.lifecycle.model_pair import compare_models

    pair = compare_models(first, second)
    with atomic_file(out) as path:
        path.write_text(pair.html(), encoding="utf-8")
    _CONSOLE.print(f"{pair.laid_out.summary}\nwrote {out}", soft_wrap=True, markup=False, highlight=False)


def _validated(kind: type[Model], **values: Any) -> Model:
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        problems = (": ".join(map(str, (*one["loc"], one["msg"]))) for one in error.errors())
        raise typer.BadParameter("; ".join(problems)) from error


def _bundles(references: list[str] | None) -> "Sequence[ModelBundle]":
    """The models that are named, or every task's champion that learnt from real data."""
    from cloud_assets.lifecycle.model_references import models_for_scenes, referenced_bundle
    from cloud_assets.tasks import ALL_TASKS
    from cloud_assets.tracking import Tracker

    if references:
        return [referenced_bundle(reference) for reference in references]
    models = models_for_scenes(Tracker(), ALL_TASKS)
    for said in models.said:
        _CONSOLE.print(said, style="dim", markup=False, highlight=False, soft_wrap=True)
    return models.bundles


@app.command("new-task")
def new_task(
    name: Annotated[str, typer.Argument(help="Name of the task: letters, digits and underscores.")],
    data: Annotated[Path, typer.Option(help="Folder with images/ and masks/, paired by name.")],
    kind: Annotated[
        Literal["segmentation", "classes", "coverage"],
        typer.Option(help="Masks of cloud; masks of thick and thin cloud and shadow; how cloudy a patch is."),
    ] = "segmentation",
    images: Annotated[str | None, typer.Option(help="Folder of the images in it. Default: images, scenes …")] = None,
    masks: Annotated[str | None, typer.Option(help="Folder of the masks in it. Default: masks, labels …")] = None,
    code: Annotated[
        list[str] | None,
        typer.Option(help="Code or class in the masks = meaning, such as 255=cloud, 3=shadow; several times."),
    ] = None,
    attribute: Annotated[str | None, typer.Option(help="Attribute of polygons that names the class.")] = None,
    outside: Annotated[str, typer.Option(help="Outside of all polygons: clear or unlabelled.")] = "clear",
    bands: Annotated[str | None, typer.Option(help="Bands of raster files in order; - for one not used.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Instrument of raster files.")] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance a number of raster files.")] = None,
    offset: Annotated[float | None, typer.Option(help="Added to it, in reflectance.")] = None,
    group_pattern: Annotated[
        str | None, typer.Option(help="Regular expression: images whose names share its match stay together.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 600,
    force: Annotated[bool, typer.Option(help="Replace a task of this name.")] = False,
) -> None:
    """Make labelled images of your own a task. It has splits, trained models, reports, a champion."""
    from cloud_assets.imagery.labelled_scenes import LabelledScenes
    from cloud_assets.lifecycle.new_task import check_name, survey, write_task
    from cloud_assets.orchestration.resources import Folders
    from cloud_assets.scenes.predict_command import parsed_bands

    check_name(name, force=force)
    pairs = [pair.partition("=") for pair in code or ()]
    if any(not meaning for _, _, meaning in pairs):
        raise InvalidRecipe(f"--code {' '.join(code or ())}: give pairs, --code 0=clear --code 255=cloud.")
    dataset = _validated(
        LabelledScenes,
        path=data.absolute(),
        images=images,
        masks=masks,
        codes={value: meaning for value, _, meaning in pairs},
        attribute=attribute,
        outside=outside,
        bands=parsed_bands(bands),
        instrument=instrument,
        scale=scale,
        offset=offset,
        group_pattern=group_pattern,
    )
    found = survey(dataset, Folders().working / ".cache", kind)
    path = write_task(name, found, steps, force=force)
    next_steps = (
        f"\nNext: train, evaluate, choose the champion:\n"
        f"  dagster job execute -m cloud_assets.definitions -j {name}\nthen masks with it:\n"
        f"  cloud-assets predict SCENE --model models:/{name}@champion --out products"
    )
    for line in (*found.lines(), f"wrote {path}", next_steps):
        _CONSOLE.print(line, soft_wrap=True, markup=False, highlight=False)


@app.command("export-patches")
def export_patches(
    directory: Annotated[Path, typer.Argument(help="Folder of the tree; an earlier export there is replaced.")],
    task: Annotated[str, typer.Option(help="Whose patches and splits.")] = "coverage_classification",
    image_format: Annotated[
        Literal["jpeg", "png", "geotiff"], typer.Option("--format", help="Format of the images.")
    ] = "jpeg",
    validation: Annotated[
        Literal["train", "separate", "leave_out"],
        typer.Option(help="Where validation patches go; separate: into a folder of their own."),
    ] = "train",
    boundaries: Annotated[str, typer.Option(help="Percentages between the classes.")] = "25,50,75",
    names: Annotated[str, typer.Option(help="Names of the classes.")] = "clear,scattered,broken,overcast",
) -> None:
    """Write patches, one folder a coverage class. The folders lie under train and test."""
    from cloud_assets.families.classification.class_folder_export import export_class_folders
    from cloud_assets.orchestration.resources import AssetStore, Folders
    from cloud_assets.patches.splits import Splits
    from cloud_assets.patches.store import PatchStore

    assets = AssetStore(folders=Folders()).create_io_manager()
    by_split, refused = export_class_folders(
        PatchStore.open(assets.folder([task, "labeled_patches"])),
        Splits.open(assets.folder([task, "splits"])),
        directory,
        classes=_coverage_classes(boundaries, names),
        image_format=image_format,
        validation=validation,
    )
    for split, counts in by_split.items():
        _CONSOLE.print(f"[bold]{split}[/bold]: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    if refused:
        _CONSOLE.print(f"{refused} patches with too few labelled pixels were left out.")


@app.command("label-masks")
def label_masks(
    folder: Annotated[Path, typer.Argument(help="Folder of mask rasters, searched at any depth.")],
    table: Annotated[Path, typer.Argument(help="CSV file to write: file, cloud_percentage, class.")],
    code: Annotated[
        list[str],
        typer.Option(help="Code in the masks = cloud code (0 clear, 1 thick, 2 thin, 3 shadow), such as 255=1."),
    ],
    boundaries: Annotated[str, typer.Option(help="Percentages between the classes.")] = "25,50,75",
    names: Annotated[str, typer.Option(help="Names of the classes.")] = "clear,scattered,broken,overcast",
) -> None:
    """Tell the coverage class of each mask."""
    from cloud_assets.families.classification.class_folder_export import label_masks as label

    try:
        codes = {int(left): int(right) for left, right in (pair.split("=") for pair in code)}
    except ValueError:
        raise InvalidRecipe(f"--code {' '.join(code)}: give pairs of numbers, --code 0=0 --code 255=1.") from None
    counts = label(folder, table, codes, classes=_coverage_classes(boundaries, names))
    _CONSOLE.print(f"{', '.join(f'{count} {name}' for name, count in counts.items())} -> {table}")


def _coverage_classes(boundaries: str, names: str) -> "CoverageClasses":
    from cloud_assets.families.classification.coverage_labels import CoverageClasses

    try:
        return CoverageClasses.model_validate({"boundaries": boundaries.split(","), "names": names.split(",")})
    except ValueError as error:
        raise InvalidRecipe(f"--boundaries {boundaries} --names {names}: {error}") from None


def main() -> None:
    """Runs the command line; errors that a user can mend are shown without a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in definitions.py
    try:
        keep_log()
        app()
    except CloudAssetsError as error:
        Console(stderr=True).print("[bold red]Error:[/bold red]", escape(str(error)), soft_wrap=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
