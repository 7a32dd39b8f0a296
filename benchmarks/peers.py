"""Cloud masks of other packages for whole scenes on disk, as their users make them; and OmniCloudMask's architecture.

Each peer loads what it needs, then masks a four-band GeoTIFF (red, green, blue, near infrared) of Sentinel-2: it reads
the scene, answers, and writes a compressed mask. What is not installed is left out: pip install 'cloud-assets[peers]',
and for s2cloudless the packages that it names; both without their own requirements (--no-deps) leave this environment
as it is.
"""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Masking = Callable[[npt.NDArray[Any]], npt.NDArray[np.uint8]]
"""Codes (H, W) of a scene (4, H, W) in digital numbers."""
_TILE = 1024  # side of the pieces that a peer is given which would otherwise take the whole scene at once
_PATCH, _OVERLAP = 1000, 300  # OmniCloudMask's own
_SCALE = np.float32(1e-4)


def brightness() -> Masking:
    """A threshold on mean visible reflectance, the whole scene in memory."""
    return lambda dn: (dn[:3].mean(axis=0, dtype=np.float32) * _SCALE >= np.float32(0.15)).astype(np.uint8)


def ukis_csmask() -> Masking:
    """ukis-csmask (Wieland et al. 2019), four bands, with the threads and the providers that it chooses by itself."""
    from ukis_csmask.mask import CSmask

    def mask(dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        found = np.zeros(dn.shape[1:], np.uint8)
        for rows, columns in _tiles(dn.shape[1:]):
            reflectance = np.ascontiguousarray(np.moveaxis(dn[:, rows, columns], 0, -1)).astype(np.float32) * _SCALE
            one = CSmask(reflectance, ["red", "green", "blue", "nir"], providers=["CPUExecutionProvider"])
            found[rows, columns] = one.csm[..., 0]
        return found

    return mask


def s2cloudless() -> Masking:
    """s2cloudless (Sentinel Hub): ten bands at 10 m here, the four repeated: its speed counts, not its mask."""
    from s2cloudless import S2PixelCloudDetector

    detector = S2PixelCloudDetector(threshold=0.4, average_over=4, dilation_size=2, all_bands=False)

    def mask(dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        found = np.zeros(dn.shape[1:], np.uint8)
        bands = [2, 2, 0, 0, 3, 3, 3, 0, 0, 0]
        for rows, columns in _tiles(dn.shape[1:]):
            pixels = np.moveaxis(dn[bands, rows, columns], 0, -1).astype(np.float32) * _SCALE
            found[rows, columns] = detector.get_cloud_masks(pixels[None])[0]
        return found

    return mask


def omnicloudmask() -> Masking:
    """OmniCloudMask's architecture with random weights: two U-Nets, windows of 1000 that overlap by 300, one blend.

    Wright et al. 2025, https://doi.org/10.1016/j.rse.2025.114694: encoders RegNetY-004 and EdgeNeXt-small; red, green
    and near infrared, each window standardised; half precision where the processor has it. Its decoder is fastai's,
    here that of segmentation-models-pytorch: the speed is of the kind, not of the package.
    """
    import segmentation_models_pytorch as smp
    import torch

    from cloud_assets.inference.device import autocast, keep_freed_memory

    keep_freed_memory()
    encoders = ("tu-regnety_004", "tu-edgenext_small")
    networks = [smp.Unet(name, encoder_weights=None, in_channels=3, classes=4).eval() for name in encoders]
    for network in networks:
        network.to(memory_format=torch.channels_last)
    ramp = np.minimum(np.arange(1, _PATCH + 1), np.arange(_PATCH, 0, -1)).clip(max=_OVERLAP).astype(np.float32)
    weight = np.minimum.outer(ramp, ramp) / _OVERLAP

    def mask(dn: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        height, width = dn.shape[1:]
        total = np.zeros((4, height, width), np.float32)
        with torch.inference_mode(), autocast("auto", torch.device("cpu")):
            for rows in _spread(height):
                for columns in _spread(width):
                    window = dn[[0, 1, 3], rows, columns].astype(np.float32)
                    means, deviations = window.mean((1, 2), keepdims=True), window.std((1, 2), keepdims=True)
                    pixels = (window - means) / np.maximum(deviations, 1e-6)
                    sides = [-side % 32 for side in window.shape[1:]]
                    padded = np.pad(pixels, ((0, 0), (0, sides[0]), (0, sides[1])), mode="reflect")
                    batch = torch.from_numpy(padded[None]).contiguous(memory_format=torch.channels_last)
                    answer = torch.stack([network(batch).float().softmax(1) for network in networks]).mean(0)[0]
                    tall, wide = window.shape[1:]
                    total[:, rows, columns] += answer[:, :tall, :wide].numpy() * weight[:tall, :wide]
        return total.argmax(axis=0).astype(np.uint8)

    return mask


PEERS: dict[str, tuple[Callable[[], Masking], tuple[str, ...]]] = {
    "threshold on brightness": (brightness, ()),
    "ukis-csmask": (ukis_csmask, ("ukis_csmask", "onnxruntime")),
    "OmniCloudMask's architecture": (omnicloudmask, ("segmentation_models_pytorch",)),
    "s2cloudless": (s2cloudless, ("s2cloudless", "lightgbm", "sentinelhub")),
}
"""Peer -> how it is loaded, and the packages that it needs."""


def installed() -> list[str]:
    """The peers that can be measured here."""
    return [name for name, (_, needs) in PEERS.items() if all(map(importlib.util.find_spec, needs))]


def mask_file(masking: Masking, scene: Path, out: Path) -> None:
    """Reads a scene, masks it and writes the mask."""
    import rasterio

    with rasterio.open(scene) as raster:
        dn, profile = raster.read(), raster.profile
    form = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": "deflate", "tiled": True, "nodata": None}
    place = {name: profile[name] for name in ("width", "height", "crs", "transform")}
    with rasterio.open(out, "w", **form, **place) as raster:
        raster.write(masking(dn), 1)


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for row in range(0, shape[0], _TILE):
        for column in range(0, shape[1], _TILE):
            yield slice(row, row + _TILE), slice(column, column + _TILE)


def _spread(length: int) -> list[slice]:
    """Windows of OmniCloudMask along one side."""
    starts = range(0, max(length - _OVERLAP, 1), _PATCH - _OVERLAP)
    firsts = sorted({max(min(start, length - _PATCH), 0) for start in starts})
    return [slice(first, min(first + _PATCH, length)) for first in firsts]
