"""Labelled scenes of one's own: a folder of images and a folder of masks, paired by name.

Images are whatever :func:`~cloud_assets.imagery.formats.scene_formats.open_scene` opens; masks are rasters of codes, or
polygons (GeoJSON, GeoPackage) as QGIS saves them. Each pair is written once into a cache, as digital numbers of the
instrument's profile and the project's cloud codes, so that all that comes after sees one kind of file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cloud_assets.bands import CLASS_NAMES, CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD, UNLABELLED
from cloud_assets.datasets.dataset import Collection, Dataset, check_all, named_group, official_split
from cloud_assets.datasets.rasters import combined_digest, file_digest, open_raster
from cloud_assets.datasets.scene import Grid, RasterBand, Scene, Skipped, bands_of_file
from cloud_assets.errors import DataNotFound, InvalidData, InvalidRecipe
from cloud_assets.imagery.formats.container import file_fingerprint
from cloud_assets.imagery.formats.scaling import stated_by_user
from cloud_assets.imagery.formats.scene_formats import looks_like_scene, open_scene
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.formats.stac_scene import labelled_scenes
from cloud_assets.imagery.geometry import footprint
from cloud_assets.imagery.tiling import Window
from cloud_assets.storage import atomic_directory

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scenes")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "gt", "truth", "annotations")
_VECTORS = frozenset({".geojson", ".json", ".gpkg"})
_RASTERS = frozenset({".tif", ".tiff", ".png", ".jp2"})
_MASK_WORD = r"(?:(?:cloud|f)?_?(?:masks?|msks?)|labels?|lbls?|gts?|truth|annotations?)"
_MASK_WORDS = re.compile(rf"(?:^|[_\-. ]){_MASK_WORD}(?=$|[_\-. ])", re.I)
# Words that tell an image from its mask, and nothing about the place.
_WORDS = re.compile(
    rf"(?:^|[_\-. ])(?:images?|imgs?|scenes?|{_MASK_WORD}|clouds?|seg|segmentation|ref)(?=$|[_\-. ])", re.I
)
_PRODUCT = re.compile(r"L[A-Z]0?\d_?L?\w*?_?\d{6}_?\d{7,8}|S2[A-D]\w*?_\d{8}T\d{6}|T\d{2}[A-Z]{3}_\d{8}")
# What tells pieces of one image apart: "_p12", "_patch_3", "_3_by_4", "_r1_c2", "_x512_y0".
_PIECE = re.compile(
    r"(?<=.)[_\-. ](?:(?:p|patch|tile|chip|crop|part)[_\-]?\d+|\d+_by_\d+|[rxy]\d+[_\-]?[cxy]\d+)(?=$|[_\-. ]).*", re.I
)
_ATTRIBUTES = ("class", "label", "code", "type", "cloud", "name")
_MEANINGS: Mapping[str, int] = {
    **{name: code for code, name in CLASS_NAMES.items()},
    **{"cloud": THICK_CLOUD, "thick": THICK_CLOUD, "thin": THIN_CLOUD, "shadow": CLOUD_SHADOW, "cirrus": THIN_CLOUD},
    **{"unlabelled": UNLABELLED, "unlabeled": UNLABELLED, "ignore": UNLABELLED, "background": CLEAR},
}
"""Words for classes, beside the numbers of the cloud codes."""
_ROWS = 1024
_NOTHING = 254  # where no polygon is, while polygons are drawn
_FEWEST_GROUPS = 3
_SLIVER = 0.01  # share of an image that others may overlap without being of one group


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    name: str
    image: Path | str  # what :func:`~cloud_assets.imagery.formats.scene_formats.open_scene` opens: a path or an address
    mask: Path
    is_shared: bool = False  # whether one file of polygons is the mask of several images
    split: str | None = None  # what a folder named train, validation or test says


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
        "acquisition that a split must not cut. Unset: the product's name in it, or what is before the number of a "
        "piece (_p12, _patch_3, _3_by_4), else each image is its own. Overlapping images are always one group.",
    )
    max_skipped_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Share of the images that may be unusable before it is an error."
    )

    @property
    def place(self) -> Path | None:
        """The folder that the settings name."""
        return None if self.path is None else self.path.expanduser().absolute()

    def missing(self, folder: Path, what: str = "") -> DataNotFound:
        """The error for a folder that is not there, or holds nothing."""
        if self.place is None:
            return super().missing(folder, what)
        return DataNotFound(
            f"{folder} {'holds no labelled scenes' if folder.is_dir() else 'is no folder'}. {self.how_to_get}"
        )

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        """Pairs, checks and converts every image and its mask."""
        pairs, skipped, notes = self.pairs(folder)
        store, legend = cache / self.folder, self.legend()
        found, refused = check_all(
            pairs, lambda pair: self._converted(pair, store, legend), lambda pair: str(pair.image), self.title, progress
        )
        usual = Counter(scene.instrument for scene, _ in found).most_common(1)
        kept = [(scene, grid) for scene, grid in found if scene.instrument == usual[0][0]]
        refused += [
            Skipped(scene.scene_id, f"is of {scene.instrument}, most images are of {usual[0][0]}")
            for scene, _ in found
            if scene.instrument != usual[0][0]
        ]
        groups = _groups([scene.scene_id for scene, _ in kept], [grid for _, grid in kept], self.group_pattern)
        scenes = [replace(scene, group=group) for (scene, _), group in zip(kept, groups, strict=True)]
        told = {(scene.group, scene.split) for scene in scenes}
        if any(split for _, split in told) and (len(told) > len(set(groups)) or not all(split for _, split in told)):
            notes.append("Folders named train, validation or test are not used: they cut groups, or not all have one.")
            scenes = [replace(scene, split=None) for scene in scenes]
        return Collection(scenes, [*skipped, *refused], notes)

    def pairs(self, folder: Path) -> tuple[list[Pair], list[Skipped], list[str]]:
        """The images that have a mask, those that have several, and notes on what is left over.

        An image and its mask share their name but for words such as "mask"; where several files of one name lie in
        sub-folders, they share these as well. STAC items with labels name both.
        """
        stated = [
            Pair(path.stem if place == 0 else f"{path.stem}_{place}", scene, Path(labels))
            for path in sorted(path for pattern in ("*.json", "*.geojson") for path in folder.rglob(pattern))
            for place, (scene, labels) in enumerate(labelled_scenes(path))
        ]
        if stated:
            remote = [pair for pair in stated if not pair.mask.is_file()]
            skipped = [Skipped(pair.name, f"has labels at {pair.mask}, which is no local file") for pair in remote]
            return [pair for pair in stated if pair not in remote], skipped, [f"{len(stated)} STAC items with labels"]
        image_folder = self._subfolder(folder, self.images, _IMAGE_FOLDERS)
        mask_folder = self._subfolder(folder, self.masks, _MASK_FOLDERS)
        images = _images(image_folder)
        masks = sorted(
            path
            for path in mask_folder.rglob("*")
            if path.suffix.lower() in _RASTERS | _VECTORS and path not in images and not path.name.startswith(".")
        )
        by_name: dict[str, list[Path]] = {}
        for mask in masks:
            by_name.setdefault(_key(mask), []).append(mask)
        twins = Counter(_key(image) for image in images)
        stems = Counter(_stem(image) for image in images)
        # One file of polygons may cover all images.
        is_shared = len(masks) == 1 and is_drawn(masks[0]) and _key(masks[0]) not in twins
        shared = masks if is_shared else []
        pairs, skipped, lonely = [], [], []
        for image in images:
            key = _key(image)
            own = shared or by_name.get(key, [])
            if not shared and (len(own) > 1 or twins[key] > 1):
                place = _place(image, image_folder)
                own = [mask for mask in own if _place(mask, mask_folder) == place]
            if len(own) == 1:
                parts, stem = image.relative_to(image_folder).parts[:-1], _stem(image)
                split = next(filter(None, map(official_split, parts)), None)
                pairs.append(
                    Pair(stem if stems[stem] == 1 else "/".join((*parts, stem)), image, own[0], is_shared, split)
                )
            elif own:
                skipped.append(Skipped(str(image), f"has {len(own)} masks: {_some(own)}"))
            else:
                lonely.append(image)
        used = {pair.mask for pair in pairs}
        told = {mask for image in images for mask in by_name.get(_key(image), [])}
        orphans = [mask for mask in masks if mask not in used | told]
        left = [(lonely, "image(s) without a mask"), (orphans, "mask(s) without an image")]
        notes = [f"{len(files)} {what}: {_some(files)}" for files, what in left if files]
        if not pairs:
            raise DataNotFound(
                f"No image has a mask of its name: {image_folder} holds {len(images)} image(s) ({_some(images)}), "
                f"{mask_folder} {len(masks)} mask(s) ({_some(masks)}). {self.how_to_get}"
                + "".join(f"\n  {item}" for item in skipped[:10])
            )
        return pairs, skipped, notes

    def legend(self) -> dict[str, int] | None:
        """Code or class in the masks -> cloud code; None: the project's own codes."""
        if not self.codes:
            return None
        legend = {}
        for given, word in self.codes.items():
            code = meaning(str(word), None)
            if code is None:
                raise InvalidRecipe(f"codes: {word!r} is none of {', '.join(_MEANINGS)} or 0, 1, 2, 3, 255.")
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
        pixels = [source.fingerprint, source.instrument, str(bands), file_fingerprint([pair.mask])]
        key = combined_digest([*pixels, *settings])
        folder = store / f"{source.name}-{key[:12]}"
        names = tuple(name for name in source.bands if source.profile.find(name).common_name != "pan")
        if not folder.is_dir():
            with atomic_directory(folder) as temporary:
                mask = read_mask(pair.mask, source.grid, legend, self.attribute, self.outside, pair.is_shared)
                _write(source, names, mask, temporary)
        image, truth = folder / "image.tif", folder / "mask.tif"
        scene = Scene(
            scene_id=pair.name,
            group=pair.name,
            instrument=source.instrument,
            bands=bands_of_file(str(image), names),
            truth=RasterBand(str(truth)),
            label_type="own",
            split=pair.split,
            content_hash=combined_digest([file_digest(str(image)), file_digest(str(truth))]),
        )
        return scene, source.grid


def read_mask(
    path: Path,
    grid: Grid,
    legend: Mapping[str, int] | None,
    attribute: str | None = None,
    outside: str = "clear",
    is_shared: bool = False,
) -> npt.NDArray[np.uint8]:
    """A mask, a raster of codes or a file of polygons, on the grid of its image: (H, W) cloud codes, 255 unlabelled.

    The legend is code or class -> cloud code (None: the project's own). Of polygons, ``attribute`` names the class,
    ``clear`` or ``unlabelled`` lies outside, and those shared by several images may leave this one without any.
    """
    if is_drawn(path):
        return _rasterised(path, grid, legend, attribute, CLEAR if outside == "clear" else UNLABELLED, is_shared)
    raw, seen = _codes_of(path, grid)
    if not seen.any():
        raise InvalidData(f"{path} does not lie on its image: compare their coordinates and reference systems.")
    translated = np.full(raw.shape, UNLABELLED, np.uint8)
    for value in np.unique(raw[seen]):
        translated[(raw == value) & seen] = _explained(str(value), legend, path)
    return translated


def mask_values(path: Path, attribute: str | None = None) -> Counter[str]:
    """How often each code is in a raster mask, or each class in a file of polygons; for a survey of unknown masks."""
    if is_drawn(path):
        return Counter(str(value) for _, value in _polygons(path, attribute)[0])
    with open_raster(str(path)) as raster:
        values, counts = np.unique(raster.read(1), return_counts=True)
    codes = [str(int(value)) if np.isfinite(value) and value == int(value) else str(value) for value in values]
    return Counter(dict(zip(codes, counts.tolist(), strict=True)))


def is_drawn(mask: Path) -> bool:
    """Whether a mask is polygons."""
    return mask.suffix.lower() in _VECTORS


def class_attribute(path: Path) -> str:
    """Which attribute of polygons is taken for their class, for people."""
    import pyogrio

    names = list(pyogrio.read_info(path)["fields"])
    known = next((name for wanted in _ATTRIBUTES for name in names if name.lower() == wanted), None)
    if known:
        return f"{path.name}: classes are those of the attribute {known}"
    found = ", ".join(names) or "none"
    return f"{path.name}: all polygons are taken for cloud; their attributes are {found} (--attribute)"


def meaning(value: str, legend: Mapping[str, int] | None) -> int | None:
    """The cloud code of a code or class in a mask; None if nothing explains it.

    Beside a legend words keep their meaning, but numbers have none.
    """
    own = {str(code): code for code in (*CLASS_NAMES, UNLABELLED)} if legend is None else legend
    return own.get(value.lower(), _MEANINGS.get(value.lower()))


def _explained(value: str, legend: Mapping[str, int] | None, path: Path) -> int:
    found = meaning(value, legend)
    if found is None:
        known = [str(code) for code in (*CLASS_NAMES, UNLABELLED)] if legend is None else legend
        raise InvalidData(
            f"{path} holds the label {value!r}, which is not explained (known: {', '.join(known)}). Say what it means: "
            f"--code '{value}=thick cloud', or thin cloud, cloud shadow, clear, unlabelled (codes in a task's file)."
        )
    return found


def _codes_of(path: Path, grid: Grid) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Codes (H, W) on the image's grid, and where the mask has any."""
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
                    "give both a georeference, or make them alike."
                )
            layers = raster.read()
            seen = np.ones(shape, bool) if raster.nodata == 0 else raster.read_masks(1) > 0
        else:
            # 0 is a class in masks, whatever the file's tag says.
            has_nodata = raster.nodata not in (None, 0)
            with WarpedVRT(
                raster,
                **grid.raster_options,
                resampling=Resampling.nearest,
                add_alpha=not has_nodata and raster.count == 1,
                **({} if has_nodata else {"src_nodata": None, "nodata": None}),
            ) as view:
                layers, seen = view.read(list(range(1, raster.count + 1))), view.dataset_mask() > 0
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
        raise InvalidData(f"{path} cannot be read as polygons ({error}). Save it again.") from error
    fields = {str(name).lower(): values for name, values in zip(meta["fields"], columns, strict=True)}
    wanted = [attribute.lower()] if attribute else [name for name in _ATTRIBUTES if name in fields]
    if attribute and attribute.lower() not in fields:
        raise InvalidData(f"{path}: no polygon has the attribute {attribute!r}; there are {', '.join(fields)}.")
    classes = fields[wanted[0]].tolist() if wanted else ["cloud"] * len(geometries)
    classes = [int(value) if isinstance(value, float) and value == int(value) else value for value in classes]
    shapes = shapely.from_wkb(geometries)
    return [(shape, value) for shape, value in zip(shapes, classes, strict=True) if shape], meta["crs"]


def _rasterised(
    path: Path, grid: Grid, legend: Mapping[str, int] | None, attribute: str | None, outside: int, is_shared: bool
) -> npt.NDArray[np.uint8]:
    from rasterio import Affine
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom
    from shapely.geometry import mapping

    polygons, crs = _polygons(path, attribute)
    if grid.crs is None:
        raise InvalidData(f"{path}: the image has no reference system to place polygons by: give it one, or a mask.")
    burnt = [
        (transform_geom(crs or "EPSG:4326", grid.crs, mapping(shape)), _explained(str(value), legend, path))
        for shape, value in polygons
    ]
    blank = np.full((grid.height, grid.width), outside, np.uint8)
    if not burnt:
        return blank
    # Where polygons overlap, thick cloud counts most and clear least.
    order = {THICK_CLOUD: 3, THIN_CLOUD: 2, CLOUD_SHADOW: 1}
    burnt.sort(key=lambda entry: order.get(entry[1], 0))
    filled: npt.NDArray[np.uint8] = rasterize(
        burnt, out=np.full_like(blank, _NOTHING), transform=Affine(*grid.transform), dtype="uint8", all_touched=False
    )
    if not is_shared and (filled == _NOTHING).all():
        raise InvalidData(f"{path}: no polygon lies on its image: compare their coordinates and reference systems.")
    return np.where(filled == _NOTHING, blank, filled)


def _write(source: SceneSource, names: Sequence[str], mask: npt.NDArray[np.uint8], folder: Path) -> None:
    """Writes ``image.tif`` and ``mask.tif``; where the image has no data there is no label."""
    import rasterio

    grid = source.grid
    options = {**grid.raster_options, "driver": "GTiff", "compress": "deflate", "bigtiff": "if_safer"}
    options |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    profile = source.profile
    with (
        source.open(names) as reader,
        rasterio.open(
            folder / "image.tif", "w", count=len(names), dtype=profile.dtype, nodata=profile.nodata, **options
        ) as image,
        rasterio.open(folder / "mask.tif", "w", count=1, dtype="uint8", **options) as truth,
    ):
        image.descriptions = tuple(names)
        for row in range(0, grid.height, _ROWS):
            window = Window(row, 0, _ROWS, grid.width).inside(grid.height, grid.width)
            dn = reader.read(window)
            labels = np.where(reader.valid(dn), mask[window.slices], np.uint8(UNLABELLED))
            image.write(dn, window=window.slices)
            truth.write(labels, 1, window=window.slices)


def _images(folder: Path) -> list[Path]:
    """Scenes in a folder, at any depth; what a scene's folder holds is no scene of its own."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if looks_like_scene(path):
            if not (path.is_file() and _MASK_WORDS.search(path.stem)):
                found.append(path)
        elif path.is_dir() and path.name.lower() not in _MASK_FOLDERS:
            found += _images(path)
    return found


def _stem(path: Path) -> str:
    """The name without its suffixes: "a.tif.tif" is "a", "a.b.tif" is "a.b"."""
    name = path.name.removesuffix(".SAFE")
    while not path.is_dir() and Path(name).suffix.lower() in _RASTERS | _VECTORS | {path.suffix.lower()} - {""}:
        name = Path(name).stem
    return name


def _key(path: Path) -> str:
    """What the names of an image and its mask share; nothing, if they are but "image" and "mask"."""
    return re.sub(r"[_\-. ]+", "_", _WORDS.sub("", _stem(path))).strip("_").lower()


def _place(path: Path, folder: Path) -> tuple[str, ...]:
    """The sub-folders that an image and its mask share."""
    parts = (part.lower() for part in path.relative_to(folder).parts[:-1])
    return tuple(part for part in parts if part not in (*_IMAGE_FOLDERS, *_MASK_FOLDERS))


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:5]) + (", …" if len(paths) > 5 else "") if paths else "none"


def _groups(names: Sequence[str], grids: Sequence[Grid], pattern: str | None) -> list[str]:
    """The group of each image: by its name, and those on overlapping ground together."""
    import shapely
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    keys = [named_group(name, pattern or _PRODUCT) for name in names]
    if (
        pattern is None
        and len(pieces := {_PIECE.sub("", key) for key in keys}) >= _FEWEST_GROUPS
        and len(pieces) < len(keys)
    ):
        keys = [_PIECE.sub("", key) for key in keys]
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


def classes_of(scenes: Iterable[Scene]) -> dict[str, float]:
    """Percentage of each class in the labelled pixels of scenes."""
    counts = np.zeros(256, np.int64)
    for scene in scenes:
        counts += np.bincount(scene.read_truth().ravel(), minlength=256)
    total = max(int(counts[list(CLASS_NAMES)].sum()), 1)
    return {name: 100 * float(counts[code]) / total for code, name in CLASS_NAMES.items() if counts[code]}
