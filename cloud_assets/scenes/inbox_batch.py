"""Scenes of an inbox, named by their keys, with one load of the models; on one machine one batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_assets.errors import CloudAssetsError
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.scenes.batch import SceneBatch
from cloud_assets.scenes.inbox import scene_path
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.product_collection import write_collection
from cloud_assets.scenes.product_record import SceneProducts

NOT_TRIED = "not tried: the disk is full, or it is the radar partner of another scene of this batch."


@dataclass(frozen=True)
class InboxOutcome:
    """How it went with one scene: products, or why there are none."""

    key: str
    products: SceneProducts | None
    reason: str
    """Empty with products."""


def process_inbox(
    inbox: Path,
    keys: Sequence[str],
    bundles: Sequence[ModelBundle],
    out_dir: Path,
    options: SceneOptions,
    *,
    bands: Sequence[str] | None = None,
    instrument: str | None = None,
    scaling: Scaling | None = None,
    tell: Callable[[str], None],
) -> Iterator[InboxOutcome]:
    """Makes the products of scenes.

    Each batch takes all cores and much memory, so a second one on the same machine waits until the first is done.

    Args:
        inbox: The folder.
        keys: The scenes, as :func:`cloud_assets.scenes.inbox.look_into` names them.
        bundles: The models.
        out_dir: Each scene's products go to a folder of its name in it.
        options: What is wanted.
        bands: Names of the bands of raster files that do not tell them.
        instrument: Instrument of raster files that do not tell it.
        scaling: Scaling of raster files that do not tell it.
        tell: Called with one sentence when it has to wait.

    Yields:
        The outcome of every scene, several of a folder that holds several; what one fails at does not stop the others.
    """
    from filelock import FileLock, Timeout

    out_dir.mkdir(parents=True, exist_ok=True)
    # The operating system lets go of it when its process ends, however that happens: a killed run blocks nobody.
    lock = FileLock(out_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("Another run is processing scenes here; this one goes on when that is done.")
        lock.acquire()
    try:
        paths: dict[Path, str] = {}
        for key in keys:
            try:
                paths[scene_path(inbox, key)] = key
            except CloudAssetsError as error:
                yield InboxOutcome(key, None, str(error))
        batch = SceneBatch(list(paths), bundles, out_dir, options, bands=bands, instrument=instrument, scaling=scaling)
        untried = dict.fromkeys(paths.values())
        for outcome in batch.run():
            key = paths[Path(outcome.named)]
            untried.pop(key, None)
            yield InboxOutcome(key, outcome.products, str(outcome.error or ""))
        for key in untried:
            yield InboxOutcome(key, None, NOT_TRIED)
        write_collection(out_dir)
    finally:
        lock.release()
