"""Tiny scenes in the agencies' own layouts: Sentinel-2 SAFE and Landsat Collection 2."""

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


def write_landsat(folder: Path, reflectance: dict[str, np.ndarray], *, level: str = "L1TP") -> Path:
    """Writes ``folder/LC09_…`` with a ``*_MTL.txt``; band 8, if given, has pixels of half the size."""
    name = LANDSAT.replace("L1TP", level)
    scene = folder / name
    gain, bias = (2e-5, -0.1) if level.startswith("L1") else (2.75e-5, -0.2)
    middle = "" if level.startswith("L1") else "SR_"
    lines = []
    for band, values in reflectance.items():
        dn = np.where(values > 0, np.rint((values - bias) / gain), 0).astype(np.uint16)
        file = f"{name}_{middle}{band}.TIF"
        write_band(scene / file, dn, 15.0 if band == "B8" else 30.0, epsg=32633)
        number = band.removeprefix("B")
        lines.append(f'    FILE_NAME_BAND_{number} = "{file}"')
        lines.append(f"    REFLECTANCE_MULT_BAND_{number} = {gain:.4E}")
        lines.append(f"    REFLECTANCE_ADD_BAND_{number} = {bias:.6f}")
    text = "\n".join(
        [
            "GROUP = LANDSAT_METADATA_FILE",
            "  GROUP = PRODUCT_CONTENTS",
            f'    LANDSAT_PRODUCT_ID = "{name}"',
            f'    PROCESSING_LEVEL = "{level}"',
            "  END_GROUP = PRODUCT_CONTENTS",
            "  GROUP = IMAGE_ATTRIBUTES",
            '    SPACECRAFT_ID = "LANDSAT_9"',
            "    DATE_ACQUIRED = 2023-06-15",
            '    SCENE_CENTER_TIME = "10:03:12.1234560Z"',
            *lines,
            "  END_GROUP = IMAGE_ATTRIBUTES",
            "END_GROUP = LANDSAT_METADATA_FILE",
            "END",
        ]
    )
    (scene / f"{name}_MTL.txt").write_text(text)
    return scene
