"""Labelled scenes of one's own: a folder of images and a folder of masks, paired by name.

Images are whatever :func:`~cloud_assets.imagery.formats.scene_formats.open_scene` opens; masks are rasters of codes, or
polygons (GeoJSON, GeoPackage) as QGIS saves them. Each pair is written once into a cache, as digital numbers of the
instrument's profile and the project's cloud codes, so that all that comes after sees one kind of file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cloud_assets.bands import CLASS_NAMES, CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.catalog import Skipped
from cloud_assets.datasets.dataset import Collection, Dataset
from cloud_assets.datasets.parallel_checks import check_all
from cloud_assets.datasets.rasters import combined_digest, file_digest, open_raster
from cloud_assets.datasets.scene import Grid, RasterBand, Scene
from cloud_assets.errors import DataNotFound, InvalidData, InvalidRecipe
from cloud_assets.imagery.formats.container import file_fingerprint
from cloud_assets.imagery.formats.scaling import stated_by_user
from cloud_assets.imagery.formats.scene_formats import looks_like_scene, open_scene
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.geometry import footprint
from cloud_assets.imagery.tiling.windows import Window
from cloud_assets.storage import atomic_directory

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scenes")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "gt", "truth", "annotations")
_VECTORS = frozenset({".geojson", ".json", ".gpkg"})
_RASTERS = frozenset({".tif", ".tiff", ".png", ".jp2"})
# Words that tell an image from its mask, and nothing about the place.
_WORDS = re.compile(
    r"(?:^|[_\-. ])(?:images?|imgs?|masks?|labels?|gts?|truth|annotations?|cloud_?masks?|clouds?|seg|segmentation|ref)"
    r"(?=$|[_\-. ])",
    re.I,
)
_PRODUCT = re.compile(r"L[A-Z]0?\d_?L?\w*?_?\d{6}_?\d{7,8}|S2[A-D]\w*?_\d{8}T\d{6}|T\d{2}[A-Z]{3}_\d{8}")
_ATTRIBUTES = ("class", "label", "code", "type", "cloud", "name", "id")
_MEANINGS: Mapping[str, int] = {
    **{name: code for code, name in CLASS_NAMES.items()},
    **{"cloud": THICK_CLOUD, "thick": THICK_CLOUD, "thin": THIN_CLOUD, "shadow": CLOUD_SHADOW, "cirrus": THIN_CLOUD},
    **{"unlabelled": UNLABELLED, "unlabeled": UNLABELLED, "ignore": UNLABELLED, "background": CLEAR},
}
"""Words for classes, beside the numbers of the cloud codes."""
_ROWS = 1024
_SLIVER = 0.01
"""Share of an image that others may overlap without being of one group."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    name: str
    image: Path
    mask: Path


class LabelledScenes(Dataset):
    """Images and masks of one's own, of any raster format and size."""

    folder: ClassVar[str] = "labelled-scenes"
    title: ClassVar[str] = "Labelled scenes"
    how_to_get: ClassVar[str] = (
        "Put images into images/ and a mask of the same name for each into masks/ there, or name the folders."
    )

    path: Path | None = Field(None, description="Folder that holds both; unset: labelled-scenes/ among the raw data.")
    images: str | None = Field(None, description="Folder of the images in it; unset: images/, scenes/ or the like.")
    masks: str | None = Field(None, description="Folder of the masks in it; unset: masks/, labels/ or the like.")
    bands: tuple[str, ...] | None = Field(
        None, description="Bands of raster files in their order, '-' for one that is not used; unset: as they tell."
    )
    instrument: str | None = Field(None, description="Instrument of raster files; unset: as they tell.")
    scale: float | None = Field(None, description="Reflectance a number of raster files; unset: as they tell.")
    offset: float | None = Field(None, description="Added to it, in reflectance.")
    codes: Mapping[str | int, str | int] = Field(
        default_factory=dict,
        description="Code in the masks, or class of the polygons -> clear, thick cloud, thin cloud, cloud shadow, "
        "unlabelled, or their codes 0, 1, 2, 3, 255. Unset: 0 is clear, 1 thick, 2 thin, 3 shadow, 255 unlabelled.",
    )
    attribute: str | None = Field(None, description="Attribute of polygons that names the class; unset: class, label …")
    outside: Literal["clear", "unlabelled"] = Field("clear", description="What lies outside of all polygons.")
    group_pattern: str | None = Field(
        None,
        description="Regular expression found in an image's name; its first group (or the whole match) names the "
        "acquisition that a split must not cut. Unset: the product's name in it, else each image is its own. Images of "
        "overlapping ground are always one group.",
    )
    max_skipped_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Share of the images that may be unusable before it is an error."
    )

    @property
    def place(self) -> Path | None:
        """The folder that the settings name."""
        return None if self.path is None else self.path.expanduser().absolute()

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        """Pairs, checks and converts every image and its mask."""
        pairs, skipped = self.pairs(folder)
        if not pairs:
            raise self.missing(folder, "no image with a mask in")
        legend = self.legend()
        store = cache / self.folder

        def convert(pair: Pair) -> tuple[Scene, Grid]:
            return self._converted(pair, store, legend)

        found, refused = check_all(pairs, convert, lambda pair: str(pair.image), self.title, progress)
        counts = Counter(scene.instrument for scene, _ in found)
        kept = [(scene, grid) for scene, grid in found if scene.instrument == counts.most_common(1)[0][0]]
        refused += [
            Skipped(scene.scene_id, f"is of {scene.instrument}, most images are of {counts.most_common(1)[0][0]}")
            for scene, _ in found
            if scene.instrument != counts.most_common(1)[0][0]
        ]
        groups = _groups([scene.scene_id for scene, _ in kept], [grid for _, grid in kept], self.group_pattern)
        scenes = [
            Scene(**{**{name: getattr(scene, name) for name in Scene.__dataclass_fields__}, "group": group})
            for (scene, _), group in zip(kept, groups, strict=True)
        ]
        note = f"{len(set(groups))} groups that a split must not cut, of {len(scenes)} images."
        return Collection(scenes, [*skipped, *refused], [note])

    def pairs(self, folder: Path) -> tuple[list[Pair], list[Skipped]]:
        """The images that have a mask, and what is left over.

        Raises:
            DataNotFound: If a folder is not there.
        """
        images = _images(self._subfolder(folder, self.images, _IMAGE_FOLDERS))
        place = self._subfolder(folder, self.masks, _MASK_FOLDERS)
        masks = sorted(
            path
            for path in place.rglob("*")
            if path.suffix.lower() in _RASTERS | _VECTORS and path not in images and not path.name.startswith(".")
        )
        by_key: dict[str, list[Path]] = {}
        for mask in masks:
            by_key.setdefault(_key(mask), []).append(mask)
        # One file of polygons may cover all images.
        shared = [mask for mask in masks if mask.suffix.lower() in _VECTORS]
        shared = shared if len(shared) == 1 == len(masks) else []
        pairs, skipped, used = [], [], set()
        for image in images:
            own = by_key.get(_key(image), shared)
            if len(own) == 1:
                pairs.append(Pair(image.name if image.is_dir() else image.stem, image, own[0]))
                used.add(own[0])
            else:
                why = (
                    f"has {len(own)} masks: {', '.join(mask.name for mask in own)}"
                    if own
                    else f"has no mask in {place}"
                )
                skipped.append(Skipped(str(image), why))
        skipped += [
            Skipped(str(mask), "is the mask of no image")
            for mask in masks
            if mask not in used and len(by_key[_key(mask)]) == 1
        ]
        return pairs, skipped

    def legend(self) -> dict[str, int] | None:
        """Code or class in the masks -> cloud code; None: the project's own codes.

        Raises:
            InvalidRecipe: If a meaning is unknown.
        """
        if not self.codes:
            return None
        legend = {}
        for given, meaning in self.codes.items():
            known = _MEANINGS.get(str(meaning).lower())
            code = known if known is not None else int(meaning) if str(meaning).isdigit() else None
            if code not in (*CLASS_NAMES, UNLABELLED):
                raise InvalidRecipe(f"codes: {meaning!r} is none of {', '.join(_MEANINGS)} or 0, 1, 2, 3, 255.")
            legend[str(given).lower()] = code
        return legend

    def open(self, pair: Pair) -> SceneSource:
        """The image of a pair."""
        return open_scene(pair.image, self.bands, self.instrument, stated_by_user(self.scale, self.offset))

    def _subfolder(self, folder: Path, given: str | None, names: Sequence[str]) -> Path:
        if given is not None:
            if not (folder / given).is_dir():
                raise DataNotFound(f"{folder / given} is no folder. Name the one that holds the files.")
            return folder / given
        found = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
        return next((found[name] for name in names if name in found), folder)

    def _converted(self, pair: Pair, store: Path, legend: Mapping[str, int] | None) -> tuple[Scene, Grid]:
        source = self.open(pair)
        settings = [self.outside, str(self.attribute), str(sorted((legend or {}).items()))]
        bands = {name: str(band) for name, band in source.bands.items()}
        key = combined_digest(
            [source.fingerprint, source.instrument, str(bands), file_fingerprint([pair.mask]), *settings]
        )
        folder = store / f"{source.name}-{key[:12]}"
        names = tuple(name for name in source.bands if source.profile.find(name).common_name != "pan")
        if not folder.is_dir():
            with atomic_directory(folder) as temporary:
                mask = read_mask(pair.mask, source.grid, legend, self.attribute, self.outside)
                _write(source, names, mask, temporary)
        image, truth = folder / "image.tif", folder / "mask.tif"
        scene = Scene(
            scene_id=pair.name,
            group=pair.name,
            instrument=source.instrument,
            bands={name: RasterBand(str(image), index) for index, name in enumerate(names, start=1)},
            truth=RasterBand(str(truth)),
            label_type="own",
            content_hash=combined_digest([file_digest(str(image)), file_digest(str(truth))]),
        )
        return scene, source.grid


def read_mask(
    path: Path, grid: Grid, legend: Mapping[str, int] | None, attribute: str | None = None, outside: str = "clear"
) -> npt.NDArray[np.uint8]:
    """A mask on the grid of its image.

    Args:
        path: Raster of codes, or file of polygons.
        grid: The image's.
        legend: Code or class -> cloud code; None: the project's own.
        attribute: Of polygons, names the class.
        outside: What lies outside of all polygons, ``clear`` or ``unlabelled``.

    Returns:
        (H, W) cloud codes, 255 where unlabelled.

    Raises:
        InvalidData: If it cannot be read, does not lie on the image, or holds a code that the legend lacks.
    """
    if path.suffix.lower() in _VECTORS:
        return _rasterised(path, grid, legend, attribute, CLEAR if outside == "clear" else UNLABELLED)
    raw, seen = _codes_of(path, grid)
    translated = np.full(raw.shape, UNLABELLED, np.uint8)
    for value in np.unique(raw[seen]):
        translated[(raw == value) & seen] = _meaning(str(value), legend, path)
    return translated


def mask_values(path: Path) -> Counter[str]:
    """How often each code is in a raster mask, or each class in a file of polygons; for a survey of unknown masks."""
    if path.suffix.lower() in _VECTORS:
        return Counter(str(value) for _, value in _polygons(path, None)[0])
    with open_raster(str(path)) as raster:
        values, counts = np.unique(raster.read(1), return_counts=True)
    return Counter({str(value): int(count) for value, count in zip(values, counts, strict=True)})


def _meaning(value: str, legend: Mapping[str, int] | None, path: Path) -> int:
    own = {str(code): code for code in (*CLASS_NAMES, UNLABELLED)} if legend is None else legend
    found = own.get(value.lower())
    if found is None and legend is None:
        found = _MEANINGS.get(value.lower())
    if found is None:
        raise InvalidData(
            f"{path} holds the label {value!r}, which is not explained (known: {', '.join(own)}). Say what it means: "
            f"codes: {{{value}: thick cloud}}."
        )
    return found


def _codes_of(path: Path, grid: Grid) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Codes (H, W) on the image's grid, and where the mask has any."""
    from rasterio import Affine
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    with open_raster(str(path)) as raster:
        shape = (grid.height, grid.width)
        own = Grid(
            raster.height, raster.width, raster.crs.to_string() if raster.crs else None, tuple(raster.transform[:6])
        )
        if raster.crs is None or grid.crs is None or own == grid:
            if (raster.height, raster.width) != shape:
                raise InvalidData(
                    f"{path} measures {raster.width} x {raster.height} pixels, its image {grid.width} x {grid.height}; "
                    "without a georeference in both their relative position is unknown."
                )
            layers, seen = raster.read(), raster.read_masks(1) > 0
        else:
            with WarpedVRT(
                raster,
                crs=grid.crs,
                transform=Affine(*grid.transform),
                height=grid.height,
                width=grid.width,
                resampling=Resampling.nearest,
                add_alpha=raster.nodata is None and raster.count == 1,
            ) as view:
                layers, seen = view.read(list(range(1, raster.count + 1))), view.dataset_mask() > 0
        if raster.nodata is not None and raster.nodata == 0:
            seen = np.ones(shape, bool)  # 0 is a class in masks, whatever the file's tag says
        if (layers != layers[:1])[: min(3, len(layers))].any():
            raise InvalidData(f"{path} is a coloured picture, not a mask: save it as one band of codes.")
    codes = layers[0]
    if np.issubdtype(codes.dtype, np.floating):
        seen = seen & np.isfinite(codes)
        if (codes[seen] != np.rint(codes[seen])).any():
            raise InvalidData(f"{path} holds fractions, not codes. Round it, or apply a threshold first.")
        codes = np.where(seen, codes, 0).astype(np.int64)
    return codes, seen


def _polygons(path: Path, attribute: str | None) -> tuple[list[tuple[Any, Any]], str | None]:
    """Geometries with their class, and the reference system of their coordinates."""
    import pyogrio
    import shapely

    try:
        meta, _, geometries, columns = pyogrio.raw.read(path)
    except (pyogrio.errors.DataSourceError, ValueError) as error:
        raise InvalidData(f"{path} cannot be read as polygons ({error}).") from error
    fields = {str(name).lower(): values for name, values in zip(meta["fields"], columns, strict=True)}
    wanted = [attribute.lower()] if attribute else [name for name in _ATTRIBUTES if name in fields]
    if attribute and attribute.lower() not in fields:
        raise InvalidData(f"{path}: no polygon has the attribute {attribute!r}; there are {', '.join(fields)}.")
    classes = fields[wanted[0]] if wanted else ["cloud"] * len(geometries)
    shapes = [shapely.from_wkb(geometry) for geometry in geometries]
    classes = [value.item() if hasattr(value, "item") else value for value in classes]
    classes = [int(value) if isinstance(value, float) and value == int(value) else value for value in classes]
    pairs = [
        (shape, value) for shape, value in zip(shapes, classes, strict=True) if shape is not None and not shape.is_empty
    ]
    return pairs, meta["crs"]


def _rasterised(
    path: Path, grid: Grid, legend: Mapping[str, int] | None, attribute: str | None, outside: int
) -> npt.NDArray[np.uint8]:
    from rasterio import Affine
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom
    from shapely.geometry import mapping

    polygons, crs = _polygons(path, attribute)
    if grid.crs is None:
        raise InvalidData(f"{path}: polygons have coordinates, but the image has no reference system to place them by.")
    burnt = [
        (transform_geom(crs or "EPSG:4326", grid.crs, mapping(shape)), _meaning(str(value), legend, path))
        for shape, value in polygons
    ]
    blank = np.full((grid.height, grid.width), outside, np.uint8)
    if not burnt:
        return blank
    # Where polygons overlap, thick cloud counts most and clear least.
    order = {THICK_CLOUD: 3, THIN_CLOUD: 2, CLOUD_SHADOW: 1}
    burnt.sort(key=lambda entry: order.get(entry[1], 0))
    filled: npt.NDArray[np.uint8] = rasterize(
        burnt, out=blank, transform=Affine(*grid.transform), dtype="uint8", all_touched=False
    )
    return filled


def _write(source: SceneSource, names: Sequence[str], mask: npt.NDArray[np.uint8], folder: Path) -> None:
    """Writes ``image.tif`` and ``mask.tif``; where the image has no data there is no label."""
    import rasterio
    from rasterio import Affine

    grid = source.grid
    options: dict[str, Any] = {
        "driver": "GTiff", "height": grid.height, "width": grid.width, "crs": grid.crs,
        "transform": Affine(*grid.transform), "tiled": True, "blockxsize": 256, "blockysize": 256,
        "compress": "deflate", "bigtiff": "if_safer",
    }  # fmt: skip
    profile = source.profile
    with (
        source.open(names) as reader,
        rasterio.open(
            folder / "image.tif", "w", count=len(names), dtype=profile.dtype, nodata=profile.nodata, **options
        ) as image,
        rasterio.open(folder / "mask.tif", "w", count=1, dtype="uint8", **options) as truth,
    ):
        image.descriptions = tuple(names)
        for window in _strips(grid):
            dn = reader.read(window)
            where = tuple((part.start, part.stop) for part in window.slices)
            labels = np.where(reader.valid(dn), mask[window.slices], np.uint8(UNLABELLED))
            image.write(dn, window=where)
            truth.write(labels, 1, window=where)


def _strips(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.height, _ROWS):
        yield Window(row, 0, _ROWS, grid.width).inside(grid.height, grid.width)


def _images(folder: Path) -> list[Path]:
    """Scenes in a folder, at any depth; what a scene's folder holds is no scene of its own."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if looks_like_scene(path):
            if not (path.is_file() and _WORDS.search(path.stem) and _is_mask_word(path.stem)):
                found.append(path)
        elif path.is_dir() and path.name.lower() not in _MASK_FOLDERS:
            found += _images(path)
    return found


def _is_mask_word(stem: str) -> bool:
    return re.search(r"(?:^|[_\-. ])(?:masks?|labels?|gts?|truth|annotations?)(?=$|[_\-. ])", stem, re.I) is not None


def _key(path: Path) -> str:
    """What the names of an image and its mask share."""
    stem = path.name.removesuffix(".SAFE") if path.is_dir() else path.stem
    return re.sub(r"[_\-. ]+", "_", _WORDS.sub("", stem)).strip("_").lower() or stem.lower()


def _groups(names: Sequence[str], grids: Sequence[Grid], pattern: str | None) -> list[str]:
    """The group of each image: by its name, and those on overlapping ground together."""
    import shapely
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    keys = [_named_group(name, pattern) for name in names]
    outlines = [None if (outline := footprint(grid)) is None else shapely.geometry.shape(outline[0]) for grid in grids]
    placed = np.array([shapely.Polygon() if outline is None else outline for outline in outlines], object)
    one, other = shapely.STRtree(placed).query(placed, predicate="intersects")
    shared = shapely.area(shapely.intersection(placed[one], placed[other]))
    # Neighbours whose edges meet share a sliver at most.
    overlap = shared > _SLIVER * np.minimum(shapely.area(placed[one]), shapely.area(placed[other]))
    first_of = {key: place for place, key in reversed(list(enumerate(keys)))}
    rows = np.concatenate([one[overlap], np.arange(len(keys))])
    columns = np.concatenate([other[overlap], np.array([first_of[key] for key in keys], np.int64)])
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(keys), len(keys)))
    _, component = connected_components(graph, directed=False)
    name_of = {int(number): keys[place] for place, number in reversed(list(enumerate(component)))}
    return [name_of[int(number)] for number in component]


def _named_group(name: str, pattern: str | None) -> str:
    match = re.search(pattern, name) if pattern else _PRODUCT.search(name)
    if match is None:
        return name
    return next((group for group in match.groups() if group), match[0])


def classes_of(scenes: Iterable[Scene]) -> dict[str, float]:
    """Percentage of each class in the labelled pixels of scenes."""
    counts = np.zeros(256, np.int64)
    for scene in scenes:
        counts += np.bincount(scene.read_truth().ravel(), minlength=256)
    total = max(int(counts[list(CLASS_NAMES)].sum()), 1)
    return {name: 100 * float(counts[code]) / total for code, name in CLASS_NAMES.items() if counts[code]}
