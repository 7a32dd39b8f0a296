"""Co-registered pairs that can be learnt: reflectance follows backscatter, plus a little noise."""

from pathlib import Path

import numpy as np

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.store import PatchStore
from cloud_assets.patches.store_writer import Patch, PatchStoreWriter, StoreOrigin, role_of

OPTICAL = ("B04", "B03", "B02", "B08")
SPLITS = ("train",) * 8 + ("validation",) * 3 + ("test",) * 3


def backscatter(count: int, size: int, seed: int = 0) -> np.ndarray:
    """(N, 2, size, size) float32 dB: blocks of 8 pixels, VH below VV."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-20, -4, (count, 1, size // 8, size // 8))
    fine = np.kron(coarse, np.ones((1, 1, 8, 8)))
    both = np.concatenate([fine, fine - 4], axis=1) + rng.normal(0, 0.3, (count, 2, size, size))
    return both.astype(np.float32)


def reflectance_of(radar: np.ndarray) -> np.ndarray:
    """(N, 4, H, W) reflectance, linear in VV."""
    bright = (radar[:, :1] + 20) / 16
    return np.concatenate([0.05 + 0.1 * bright, 0.06 + 0.08 * bright, 0.04 + 0.05 * bright, 0.4 - 0.2 * bright], axis=1)


def write_pairs(
    directory: Path,
    radar: np.ndarray,
    reflectance: np.ndarray,
    splits: tuple[str | None, ...] = SPLITS,
    groups: tuple[str, ...] | None = None,
) -> PatchStore:
    """A patch store with the roles sar and optical."""
    optical = INSTRUMENTS["sentinel2_l1c"].to_dn(reflectance).astype(np.uint16)
    bands = {"sar": ("VV", "VH"), "optical": OPTICAL}
    roles = {
        "sar": role_of("sentinel1_grd", bands["sar"], radar.dtype, radar.shape[1:]),
        "optical": role_of("sentinel2_l1c", bands["optical"], optical.dtype, optical.shape[1:]),
    }
    origin = StoreOrigin("pairs", "in memory", True, ())
    with PatchStoreWriter(directory, PatchRecipe(roles=bands, minimum_valid=0.0), roles, False, origin) as writer:
        for number in range(len(radar)):
            group = f"place{number}" if groups is None else groups[number]
            writer.append(
                Patch(
                    patch_id=f"pair{number:02d}",
                    scene_id=f"pair{number:02d}",
                    group=group,
                    images={"sar": radar[number], "optical": optical[number]},
                    valid=np.isfinite(radar[number]).all(axis=0),
                    official_split=splits[number],
                )
            )
    return PatchStore.open(directory)
