"""Scenes that a STAC catalogue lists (https://stacspec.org): items as files, by address, or in collections.

Bands are found by the names in an item (``eo:bands``, ``bands``) or its assets' keys; scale, offset and nodata by
``raster:bands`` or the ``raster:`` fields of STAC 1.1. Assets in object stores and on web servers are read in place.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cloud_assets.bands import INSTRUMENTS, Instrument
from cloud_assets.datasets.rasters import combined_digest, open_raster
from cloud_assets.datasets.scene import RasterBand
from cloud_assets.errors import InvalidScene
from cloud_assets.imagery.formats.container import file_fingerprint
from cloud_assets.imagery.formats.names import (
    find_band,
    gdal_path,
    instrument_from_name,
    is_address,
    known_instrument,
    safe_name,
)
from cloud_assets.imagery.formats.scaling import ScaledBand, Scaling, band_scaling, scaled_bands, stated_scaling
from cloud_assets.imagery.formats.scene_source import STATED_CLOUD, SceneSource, finest_grid, sun_corrected, sun_notes

if TYPE_CHECKING:
    from pystac import Asset, Item

_PICTURES = frozenset({"overview", "thumbnail", "visual", "preview", "rendered_preview"})
"""Roles and keys of assets that hold no measurements."""
_LABELS = frozenset({"labels", "label", "mask"})
_SUFFIXES = frozenset({".tif", ".tiff", ".jp2"})
_STATED = ("scale", "offset", "nodata")
_PLATFORMS = (
    (re.compile(r"sentinel-?2", re.I), "sentinel2"),
    (re.compile(r"landsat[-_]?0?[89]", re.I), "landsat8"),
    (re.compile(r"landsat[-_]?0?7", re.I), "landsat_etm"),
    (re.compile(r"landsat[-_]?0?[45]", re.I), "landsat_tm"),
)
_LEVEL = re.compile(r"(?<![A-Za-z0-9])(?:S2MSI|L)([12])(?:[AC]|SP|SR|TP|GT|GS)?(?![A-Za-z0-9])", re.I)
_LEVEL_FIELDS = ("processing:level", "s2:product_type", "product:type", "landsat:correction")


def stac_scenes(location: Path | str) -> list[Path | str]:
    """The scenes that a STAC file holds or leads to: itself if it is an item.

    Else a list of items (``FeatureCollection``), a collection or a catalogue. Items of a list: ``<file>#<id>``.

    Raises:
        InvalidScene: If it is no STAC file, cannot be read, or leads to no item.
    """
    content = _json(location)
    kind = content.get("type")
    if kind == "Feature" or "#" in str(location):
        return [location]
    if kind == "FeatureCollection":
        found: list[Path | str] = [f"{location}#{item.get('id')}" for item in content.get("features", ())]
    else:
        with _stac_errors(location):
            from pystac import Catalog, Collection

            root = (Collection if kind == "Collection" else Catalog).from_dict(content, href=str(location))
            found = [str(item.self_href) for item in root.get_items(recursive=True)]
    if not found:
        raise InvalidScene(
            f"{location} lists no items. Of a catalogue that answers searches, give the items of a search (as a file)."
        )
    return found


def open_stac(location: Path | str, instrument: str | None = None, scaling: Scaling | None = None) -> SceneSource:
    """Describes the scene of a STAC item.

    A file that the item gives by address and that lies beside the item is read there. The instrument is given where
    the item does not tell, the scaling in place of what it states.

    Raises:
        InvalidScene: If it is no item, nothing tells the instrument, the sun was below the horizon, or no asset is a
            band of the instrument; the message lists what was found.
        InvalidData: If an asset cannot be opened.
    """
    item = _item(location)
    profile = _instrument(item, location, instrument)
    stated_elevation = item.properties.get("view:sun_elevation")
    elevation = None if stated_elevation is None else float(stated_elevation)
    sun = sun_notes(str(location), elevation)
    is_harmonised = item.properties.get("earthsearch:boa_offset_applied") is True
    baseline = f"_N{item.properties.get('s2:processing_baseline', '')}"
    found: dict[str, ScaledBand] = {}
    for band, name, stated in _rasters(item, location, profile):
        if name in found:
            continue
        with open_raster(band.path) as raster:
            # Catalogues made from files state 1 and 0 for every band that has no tags.
            if scaling is None and (stated.get("scale", 1), stated.get("offset", 0)) != (1, 0):
                found[name] = stated_scaling(raster, band, profile, stated, is_harmonised)
            else:
                texts = (item.id, PurePosixPath(band.path).name, baseline)
                found[name] = band_scaling(raster, band, profile, scaling, texts)
                if stated.get("nodata") is not None:
                    found[name] = replace(found[name], nodata=float(stated["nodata"]))
    bands, notes = scaled_bands(found)
    if not bands:
        raise InvalidScene(
            f"{location}: no asset is a band of {profile.name} ({', '.join(profile.names)}). Found: "
            f"{', '.join(item.assets) or 'no asset'}. Name its instrument (--instrument)."
        )
    key, bands = sun_corrected(profile.name, bands, elevation)
    local = [Path(band.raster.path) for band in bands.values() if not band.raster.path.startswith("/vsi")]
    text = json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False), sort_keys=True, default=str)
    cover = item.properties.get("eo:cloud_cover")
    return SceneSource(
        name=safe_name(item.id),
        instrument=key,
        bands={name: bands[name] for name in profile.names if name in bands},
        grid=finest_grid(bands, profile),
        location=str(location),
        fingerprint=combined_digest([text, file_fingerprint(local)]),
        acquired=item.datetime or item.common_metadata.start_datetime,
        sun_elevation=None if key == profile.name else elevation,
        warnings=(*sun, *notes),
        attributes={
            "satellite": str(item.properties.get("platform", "")),
            **({STATED_CLOUD: str(cover)} if cover is not None else {}),
        },
    )


def labelled_scenes(location: Path) -> list[tuple[str, str]]:
    """The scenes that a STAC item has labels for, each with the address of its labels; none if it has no labels.

    Labels are an asset named or with the role "labels", "label" or "mask"; they are those of the items that the item's
    links of the label extension (https://github.com/stac-extensions/label) call its sources, else its own.
    """
    try:
        item = _item(location)
    except InvalidScene:
        return []
    assets = item.assets.items()
    labels = next((asset for key, asset in assets if _LABELS.intersection([key.lower(), *(asset.roles or ())])), None)
    if labels is None or (address := labels.get_absolute_href()) is None:
        return []
    sources = [link.absolute_href for link in item.get_links("source")] or [str(location)]
    return [(source, address) for source in sources]


@contextmanager
def _stac_errors(location: Path | str) -> Iterator[None]:
    """Says which file is no STAC, whatever the library raises about it."""
    try:
        yield
    except InvalidScene:
        raise
    except Exception as error:  # pystac raises what its parsers do: KeyError, AttributeError, HTTPError …
        raise InvalidScene(
            f"{location} is no STAC item, list of items, collection or catalogue ({error!r}). Give such a file."
        ) from error


def _json(location: Path | str) -> dict[str, Any]:
    import fsspec

    address = str(location).partition("#")[0] if not Path(location).exists() else str(location)
    with _stac_errors(address), fsspec.open(address, "rb") as stream:
        content = json.loads(stream.read())
        if "type" not in content or ("stac_version" not in content and content["type"] != "FeatureCollection"):
            raise InvalidScene(f"{address} is no STAC item, list, collection or catalogue. Give such a one.")
    return dict(content)


def _item(location: Path | str) -> "Item":
    import pystac

    content = _json(location)
    address, _, wanted = str(location).partition("#")
    with _stac_errors(location):
        if content["type"] == "FeatureCollection":
            content = next((one for one in content["features"] if str(one.get("id")) == wanted), {})
        if content.get("type") != "Feature":
            raise InvalidScene(f"{location} is no STAC item; give the items that it lists.")
        return pystac.Item.from_dict(content, href=address if is_address(address) else str(Path(address).absolute()))


def _instrument(item: "Item", location: Path | str, given: str | None) -> Instrument:
    """The instrument of an item: as the user says, by the agency's name of the product, by platform and level."""
    hrefs = [PurePosixPath(urlsplit(asset.href).path).name for asset in item.assets.values()]
    named = (found for name in (item.id, *hrefs) if (found := instrument_from_name(name)) is not None)
    key = given or next(named, None) or _by_platform(item)
    if key is None:
        raise InvalidScene(
            f"{location}: nothing tells which instrument took this scene (platform "
            f"{item.properties.get('platform')}, collection {item.collection_id}). Say so (--instrument), one of "
            f"{', '.join(INSTRUMENTS)}."
        )
    return known_instrument(key, location)


def _by_platform(item: "Item") -> str | None:
    def texts(*fields: str) -> list[str]:
        return [*(str(item.properties.get(name, "")) for name in fields), item.collection_id or "", item.id]

    platforms = texts("platform", "constellation")
    platform = next((key for text in platforms for pattern, key in _PLATFORMS if pattern.search(text)), None)
    level = next((match[1] for text in texts(*_LEVEL_FIELDS) if (match := _LEVEL.search(text))), None)
    if platform is None or level is None:
        return None
    return f"sentinel2_l{level}{'c' if level == '1' else 'a'}" if platform == "sentinel2" else f"{platform}_l{level}"


def _rasters(
    item: "Item", location: Path | str, profile: Instrument
) -> Iterator[tuple[RasterBand, str, Mapping[str, float]]]:
    """The bands of an item, the best file of each first: raster, own name, stated scale, offset and nodata."""
    beside = None if is_address(location) else Path(str(location).partition("#")[0]).absolute().parent

    def preference(entry: tuple[str, "Asset"]) -> tuple[bool, bool, float]:
        key, asset = entry
        metres = re.search(r"_(\d+)m$", key)
        finest = asset.extra_fields.get("gsd") or (int(metres[1]) if metres else 0)
        return len(_fields(asset)) > 1, "jp2" in f"{asset.media_type} {asset.href}".lower(), float(finest)

    for key, asset in sorted(item.assets.items(), key=preference):
        href = asset.get_absolute_href() or asset.href
        suffix = PurePosixPath(urlsplit(href).path).suffix.lower()
        is_raster = suffix in _SUFFIXES or "tiff" in (asset.media_type or "") or "jp2" in (asset.media_type or "")
        if not is_raster or _PICTURES.intersection([*(asset.roles or ()), key]):
            continue
        local = None if beside is None else beside / PurePosixPath(urlsplit(href).path).name
        path = str(local) if local is not None and local.is_file() else gdal_path(href)
        for index, fields in enumerate(_fields(asset), start=1):
            spelt = [fields.get("name"), key, fields.get("eo:common_name") or fields.get("common_name")]
            name = next((found for text in spelt if text and (found := find_band(str(text), profile))), None)
            if name is not None:
                stated = {what: fields[f"raster:{what}"] for what in _STATED if f"raster:{what}" in fields}
                yield RasterBand(path, index), name, stated


def _fields(asset: "Asset") -> list[dict[str, Any]]:
    """What is said of each band of an asset, in the words of STAC 1.1, whichever version says it."""
    own = asset.extra_fields
    lists = [own.get(name) for name in ("bands", "eo:bands") if isinstance(own.get(name), list)]
    described = [dict(band) for band in (lists[0] or ()) if isinstance(band, Mapping)] if lists else []
    rasters = own.get("raster:bands") or ()
    whole = {name: own[name] for name in (f"raster:{what}" for what in _STATED) if name in own}
    if "nodata" in own:
        whole["raster:nodata"] = own["nodata"]
    bands = []
    nothing: Mapping[str, Any] = {}
    for band, raster in zip_longest(described or [{}], rasters, fillvalue=nothing):
        fields = {**whole, **band}
        if "nodata" in fields:
            fields["raster:nodata"] = fields["nodata"]
        bands.append({**fields, **{f"raster:{what}": raster[what] for what in _STATED if what in raster}})
    return bands
