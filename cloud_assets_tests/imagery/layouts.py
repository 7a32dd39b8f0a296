"""Tiny scenes in the agencies' own layouts: Sentinel-2 SAFE and Landsat Collection 2."""

import json
import zipfile
from pathlib import Path

import numpy as np
import rasterio

from cloud_assets.bands import INSTRUMENTS

CORNER = (600_000.0, 5_100_000.0)
S2_L1C = "S2B_MSIL1C_20240131T101010_N0510_R022_T32TQM_20240131T121212"
S2_L2A = "S2B_MSIL2A_20240131T101010_N0510_R022_T32TQM_20240131T121212"
LANDSAT = "LC09_L1TP_193028_20230615_20230615_02_T1"
RESOLUTION = {band.name: int(band.resolution_m) for band in INSTRUMENTS["sentinel2_l1c"].bands}

_L1C_XML = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-1C.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2024-01-31T10:10:10.024Z</PRODUCT_START_TIME>
      <PROCESSING_BASELINE>05.10</PROCESSING_BASELINE>
      <Datatake><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME></Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <QUANTIFICATION_VALUE unit="none">{quantification}</QUANTIFICATION_VALUE>
      <Radiometric_Offset_List>{offsets}</Radiometric_Offset_List>
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-1C_User_Product>
"""
_L2A_XML = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2024-01-31T10:10:10.024Z</PRODUCT_START_TIME>
      <PROCESSING_BASELINE>05.10</PROCESSING_BASELINE>
      <Datatake><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME></Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>
        <AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>
      <BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-2A_User_Product>
"""


def write_band(path: Path, pixels: np.ndarray, metres: float, epsg: int = 32632) -> None:
    """A single band as lossless JPEG 2000, or as GeoTIFF if the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_jp2 = path.suffix == ".jp2"
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if is_jp2 else {"nodata": 0}
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG" if is_jp2 else "GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        crs=f"EPSG:{epsg}",
        transform=rasterio.Affine(metres, 0, CORNER[0], 0, -metres, CORNER[1]),
        **options,
    ) as raster:
        raster.write(pixels, 1)


def write_safe(
    folder: Path,
    reflectance: dict[str, np.ndarray],
    *,
    level: str = "L1C",
    offset: int | None = -1000,
    quantification: int = 10_000,
) -> Path:
    """Writes ``folder/<product>.SAFE``.

    Args:
        folder: Where to.
        reflectance: Band -> (H, W) on the band's own grid; 0 means nodata.
        level: "L1C" or "L2A".
        offset: RADIO_ADD_OFFSET in digital numbers; None as before baseline 04.00.
        quantification: Digital numbers of a reflectance of 1.
    """
    name = S2_L1C if level == "L1C" else S2_L2A
    safe = folder / f"{name}.SAFE"
    granule = safe / "GRANULE" / f"{level}_T32TQM_A036055_20240131T101010" / "IMG_DATA"
    for band, values in reflectance.items():
        dn = np.where(values > 0, np.rint(values * quantification) - (offset or 0), 0).astype(np.uint16)
        metres = RESOLUTION[band]
        tile = f"T32TQM_20240131T101010_{band}"
        path = granule / f"{tile}.jp2" if level == "L1C" else granule / f"R{metres}m" / f"{tile}_{metres}m.jp2"
        write_band(path, dn, metres)
    names = INSTRUMENTS["sentinel2_l1c"].names
    tag = "RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET"
    offsets = "" if offset is None else "".join(f'<{tag} band_id="{i}">{offset}</{tag}>' for i in range(len(names)))
    xml = (_L1C_XML if level == "L1C" else _L2A_XML).format(quantification=quantification, offsets=offsets)
    (safe / f"MTD_MSI{level}.xml").write_text(xml)
    (safe / "INSPIRE.xml").write_text("<x/>")
    return safe


def zip_safe(safe: Path, extra: dict[str, bytes] | None = None) -> Path:
    """The same product as the hubs deliver it, with members of one's own added."""
    path = safe.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(safe.rglob("*")):
            archive.write(file, file.relative_to(safe.parent))
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def write_landsat(
    folder: Path,
    reflectance: dict[str, np.ndarray],
    *,
    level: str = "L1TP",
    satellite: str = "LANDSAT_9",
    collection: int = 2,
    metadata: str = "txt",
    sun_elevation: float = 50.0,
    name: str | None = None,
) -> Path:
    """Writes ``folder/<product>`` with a metadata file whose groups repeat keys as the publisher's do.

    Args:
        folder: Where to.
        reflectance: Band -> (H, W); level 1 states it as if the sun stood overhead. Band 8 has pixels of half the size.
        level: Processing level.
        satellite: ``LANDSAT_4`` … ``LANDSAT_9``; 8 bits a pixel at level 1 before Landsat 8.
        collection: 2, 1, or 0 for products of before the collections (radiance only before Landsat 8).
        metadata: ``txt``, ``xml`` or ``json`` (Collection 2).
        sun_elevation: Degrees.
        name: Product identifier.
    """
    sensor = {"4": "TM", "5": "TM", "7": "ETM"}.get(satellite[-1], "OLI_TIRS")
    prefix = {"TM": "LT", "ETM": "LE"}.get(sensor, "LC")
    product = name or f"{prefix}0{satellite[-1]}_{level}_193028_20230615_20230615_0{collection}_T1"
    scene = folder / product
    is_surface, is_byte = level.startswith("L2"), level.startswith("L1") and prefix != "LC"
    gain, bias = (2.75e-5, -0.2) if is_surface else (1 / 255, -0.004) if is_byte else (2e-5, -0.1)
    sun = 1.0 if is_surface else max(np.sin(np.radians(sun_elevation)), 0)
    files, rescaling, radiance = {}, {}, {}
    for band, values in reflectance.items():
        dn = np.where(values > 0, np.rint((values * sun - bias) / gain), 0).astype(np.uint8 if is_byte else np.uint16)
        number = band.removeprefix("B")
        files[f"FILE_NAME_BAND_{number}"] = f"{product}_{'SR_' if is_surface else ''}{band}.TIF"
        write_band(scene / files[f"FILE_NAME_BAND_{number}"], dn, 15.0 if band == "B8" else 30.0, epsg=32633)
        rescaling[f"REFLECTANCE_MULT_BAND_{number}"] = f"{gain:.6E}"
        rescaling[f"REFLECTANCE_ADD_BAND_{number}"] = f"{bias:.6f}"
        if is_byte:  # the same reflectance as radiance, on the day and for the sun's light of Landsat 5 or 7
            light = {"1": 1983, "2": 1796, "3": 1536, "4": 1031, "5": 220.0, "7": 83.44}[number]
            light /= np.pi * (1 - 0.01672 * np.cos(np.radians(0.9856 * (166 - 4)))) ** 2
            radiance[f"RADIANCE_MULT_BAND_{number}"] = f"{gain * light:.6E}"
            radiance[f"RADIANCE_ADD_BAND_{number}"] = f"{bias * light:.6f}"
    image = {
        "SPACECRAFT_ID": satellite,
        "SENSOR_ID": sensor,
        "DATE_ACQUIRED": "2023-06-15",
        "SCENE_CENTER_TIME": "10:03:12.1234560Z",
        "SUN_AZIMUTH": "140.5",
        "SUN_ELEVATION": f"{sun_elevation}",
    }
    source = product.replace(level, "L1TP")
    level1 = dict(rescaling)
    if is_surface:  # what its level-1 source was scaled by, and the files of that
        level1 = {
            key: "2.0000E-05" if "MULT" in key else "-0.100000" for key in [*rescaling, "REFLECTANCE_MULT_BAND_8"]
        }
    if collection == 2:
        processing = {"LANDSAT_PRODUCT_ID": product, "PROCESSING_LEVEL": level}
        sources = {key: value.replace(product, source).replace("_SR_", "_") for key, value in files.items()}
        groups = {
            "PRODUCT_CONTENTS": {**processing, "COLLECTION_NUMBER": "02", **files},
            "IMAGE_ATTRIBUTES": image,
            **({"LEVEL2_PROCESSING_RECORD": processing} if is_surface else {}),
            **({"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": rescaling} if is_surface else {}),
            "LEVEL1_PROCESSING_RECORD": {
                "LANDSAT_PRODUCT_ID": source,
                "PROCESSING_LEVEL": "L1TP",
                **sources,
                "FILE_NAME_BAND_8": f"{source}_B8.TIF",
            },
            "LEVEL1_RADIOMETRIC_RESCALING": {**radiance, **level1},
        }
    else:
        rows = {**radiance, **(rescaling if collection or not is_byte else {})}
        groups = {
            "METADATA_FILE_INFO": {
                "LANDSAT_SCENE_ID": product,
                **({"LANDSAT_PRODUCT_ID": product} if collection else {}),
            },
            "PRODUCT_METADATA": {"DATA_TYPE": level, **{key: image[key] for key in list(image)[:4]}, **files},
            "IMAGE_ATTRIBUTES": {key: image[key] for key in list(image)[4:]},
            "RADIOMETRIC_RESCALING": rows,
        }
    root = "LANDSAT_METADATA_FILE" if collection == 2 else "L1_METADATA_FILE"
    (scene / f"{product}_MTL.{metadata}").write_text(_landsat_metadata(root, groups, metadata))
    return scene


def _landsat_metadata(root: str, groups: dict[str, dict[str, str]], form: str) -> str:
    if form == "json":
        return json.dumps({root: groups})
    if form == "xml":
        rows = "".join(
            f"<{group}>{''.join(f'<{key}>{value}</{key}>' for key, value in entries.items())}</{group}>"
            for group, entries in groups.items()
        )
        return f'<?xml version="1.0" encoding="UTF-8"?><{root}>{rows}</{root}>'
    lines = [f"GROUP = {root}"]
    for group, entries in groups.items():
        lines += [f"  GROUP = {group}"]
        lines += [
            f"    {key} = {value if _is_number(value) else chr(34) + value + chr(34)}" for key, value in entries.items()
        ]
        lines += [f"  END_GROUP = {group}"]
    return "\n".join([*lines, f"END_GROUP = {root}", "END", ""])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
