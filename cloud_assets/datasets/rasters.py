"""Reading of raster files for all data sets: no directory listings, errors that name the file."""

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloud_assets.errors import InvalidData

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Window = tuple[int, int, int, int]  # (first column, first row, width, height) in pixels; it may reach past the raster

_SUBFILE = re.compile(r"/vsisubfile/(\d+)_(\d+),(.+)", re.DOTALL)


@dataclass(frozen=True)
class RasterHeader:
    """What a raster file says about itself."""

    driver: str  # GDAL's name of the format, such as "GTiff" or "PNG"
    count: int  # number of bands
    dtype: str  # data type of the bands, such as "uint16"
    height: int
    width: int
    crs: str | None  # coordinate reference system as "EPSG:32633" or WKT; None where the file has none
    transform: tuple[float, float, float, float, float, float]  # affine pixel-to-map coefficients (a, b, c, d, e, f)
    has_palette: bool  # whether the values are indices into a colour table


@contextmanager
def open_raster(path: str, *, with_sidecars: bool = False) -> "Iterator[DatasetReader]":
    """Opens a file or a GDAL path such as ``/vsisubfile/200_4711,file.taco`` for reading.

    With sidecars, masks, nodata and scales in files beside it count (``.msk``, ``.aux.xml``).

    Raises:
        InvalidData: It cannot be opened, or reading from it inside the block fails.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    # Folders of 10,000 patches are not listed for side-car files at each opening; a cut-off JPEG is an error, not grey.
    listing = "FALSE" if with_sidecars else "EMPTY_DIR"
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": listing, "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE"}
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    try:
        with rasterio.Env(**options), rasterio.open(path) as raster:
            yield raster
    except RasterioError as error:
        raise InvalidData(f"{path}: missing, truncated or no raster. Copy it again. ({error})") from error


def read_header(path: str, *, with_sidecars: bool = False) -> RasterHeader:
    """Reads the header of what :func:`open_raster` opens, and makes sure that all blocks it promises are there.

    Raises:
        InvalidData: The file is missing, no raster, without bands, of mixed data types, or truncated.
    """
    with open_raster(path, with_sidecars=with_sidecars) as raster:
        if raster.count == 0:
            raise InvalidData(f"{path} holds no raster band: copy or download it again.")
        if len(set(raster.dtypes)) > 1:
            raise InvalidData(f"{path} mixes data types: {', '.join(raster.dtypes)}. Convert its bands to one.")
        if raster.driver == "GTiff" and (not path.startswith("/vsi") or _SUBFILE.fullmatch(path)):
            _check_blocks(raster, path)
        elif raster.driver == "PNG":
            _check_chunks(path)
        from rasterio.enums import ColorInterp

        a, b, c, d, e, f = raster.transform[:6]
        return RasterHeader(
            driver=raster.driver,
            count=raster.count,
            dtype=raster.dtypes[0],
            height=raster.height,
            width=raster.width,
            crs=raster.crs.to_string() if raster.crs else None,
            transform=(a, b, c, d, e, f),
            has_palette=raster.colorinterp[0] is ColorInterp.palette,
        )


def read_bands(path: str, indexes: Sequence[int], window: Window | None, fill: float | None) -> npt.NDArray[Any]:
    """Reads bands (from 1) of one file, all of it or a window: (bands, height, width) in the file's data type.

    Pixels outside the raster get the value ``fill``; None is 0.

    Raises:
        InvalidData: The file cannot be read or has fewer bands.
    """
    with open_raster(path) as raster:
        if max(indexes) > raster.count:
            raise InvalidData(f"{path} has {raster.count} band(s), not {max(indexes)}. Name one that it has.")
        if window is None:
            values: npt.NDArray[Any] = raster.read(list(indexes))
            return values
        column, row, width, height = window
        left, top = max(column, 0), max(row, 0)
        right, bottom = min(column + width, raster.width), min(row + height, raster.height)
        values = np.full((len(indexes), height, width), fill or 0, dtype=raster.dtypes[indexes[0] - 1])
        if right > left and bottom > top:
            part = raster.read(list(indexes), window=((top, bottom), (left, right)))
            values[:, top - row : bottom - row, left - column : right - column] = part
        return values


def file_digest(path: str) -> str:
    """blake2b of a file's bytes, or of those that a ``/vsisubfile/`` path selects."""
    part = _SUBFILE.fullmatch(path)
    file = Path(part[3] if part else path)
    try:
        with file.open("rb") as stream:
            if part is None:
                return hashlib.file_digest(stream, lambda: blake2b(digest_size=16)).hexdigest()
            stream.seek(int(part[1]))
            return blake2b(stream.read(int(part[2])), digest_size=16).hexdigest()
    except OSError as error:
        raise InvalidData(f"{file} cannot be read ({error.strerror}). Mend that, then run this again.") from error


def combined_digest(parts: Sequence[str]) -> str:
    """One hash over several, in order."""
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _check_blocks(raster: "DatasetReader", path: str) -> None:
    """Compares the position of every block with the file's length, so that truncation shows without decoding."""
    part = _SUBFILE.fullmatch(path)
    length = int(part[2]) if part else Path(path).stat().st_size
    for band in raster.indexes if raster.interleaving is not None and raster.interleaving.name == "band" else (1,):
        block_height, block_width = raster.block_shapes[band - 1]
        for y in range(-(-raster.height // block_height)):
            for x in range(-(-raster.width // block_width)):
                offset = raster.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band)
                size = raster.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=band)
                if offset and size and int(offset) + int(size) > length:
                    raise InvalidData(f"{path} is truncated: its pixels end too early. Copy it again.")


def _check_chunks(path: str) -> None:
    """Follows a PNG's chunks to the end mark, because the decoder passes over a missing end in silence."""
    length = Path(path).stat().st_size
    with Path(path).open("rb") as stream:
        stream.seek(8)  # signature
        while len(head := stream.read(8)) == 8:
            end = stream.tell() + int.from_bytes(head[:4], "big") + 4  # data and checksum
            if end > length:
                break
            if head[4:] == b"IEND":
                return
            stream.seek(end)
    raise InvalidData(f"{path} is truncated: the picture has no end. Copy or download it again.")
