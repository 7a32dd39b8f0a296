"""Many scenes, one load of the models: what one scene fails at does not stop the others."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from cloud_assets.errors import CloudAssetsError, InvalidData, StorageFull
from cloud_assets.imagery.formats.scaling import Scaling
from cloud_assets.imagery.formats.scene_formats import open_scene, radar_beside, scene_paths
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.scenes.options import SceneOptions
from cloud_assets.scenes.planning import SceneModels, plan_scene
from cloud_assets.scenes.product_record import SceneProducts
from cloud_assets.scenes.production import scene_products

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneOutcome:
    """How it went with one scene: products or an error."""

    named: Path | str
    """What was asked for: one name may stand for several scenes."""
    path: Path | str
    """Where the scene lies."""
    products: SceneProducts | None
    error: Exception | None


class SceneBatch:
    """Scenes, by their paths or addresses, that are processed one after the other.

    Args:
        paths: The scenes.
        bundles: The models.
        out_dir: Each scene's products go to a folder of its name in it.
        options: What is wanted.
        bands: Names of the bands of raster files that do not tell them; ``instrument`` and ``scaling`` likewise.
        instrument: See ``bands``.
        scaling: See ``bands``.
        radar: Radar scenes of the first, second, … scene. The others have the one that lies beside them by its name.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        bundles: Sequence[ModelBundle],
        out_dir: Path,
        options: SceneOptions,
        *,
        bands: Sequence[str] | None = None,
        instrument: str | None = None,
        scaling: Scaling | None = None,
        radar: Sequence[Path | str] = (),
    ) -> None:
        # A folder's *.tif names the radar partners too; they are no scenes of their own.
        partners = {radar_beside(path) for path in paths}
        self.out_dir = out_dir
        """Where the products go."""
        self._options = options
        self._scenes = [
            (named, *found)
            for named in paths
            if named not in partners
            for found in _scenes(named, bands, instrument, scaling)
        ]
        beside = [*radar, *(radar_beside(path) for _, path, _ in self._scenes[len(radar) :])]
        self._radar = [None if path is None else _attempt(open_scene, path, None, "sentinel1_grd") for path in beside]
        megapixels = sum(source.megapixels for _, _, source in self._scenes if isinstance(source, SceneSource))
        self._models = SceneModels(bundles, options, megapixels)

    @property
    def megapixels(self) -> float:
        """Pixels that go through models in all scenes, in millions."""
        total = 0.0
        for (_, _, source), radar in zip(self._scenes, self._radar, strict=True):
            if isinstance(source, SceneSource) and not isinstance(radar, Exception):
                try:
                    plan = plan_scene(source, self._models, self._options, radar)
                except CloudAssetsError:
                    continue
                total += plan.megapixels * plan.passes
        return total

    def run(self, progress: Callable[[int], None] | None = None) -> Iterator[SceneOutcome]:
        """Processes the scenes, in their order; after a full disk no further scene is tried."""
        names: dict[str, Path | str] = {}
        for (named, path, source), radar in zip(self._scenes, self._radar, strict=True):
            done = self._one(path, source, radar, names, progress)
            products, error = (None, done) if isinstance(done, Exception) else (done, None)
            yield SceneOutcome(named, path, products, error)
            if isinstance(error, StorageFull):
                return

    def _one(
        self,
        path: Path | str,
        source: SceneSource | Exception,
        radar: SceneSource | Exception | None,
        names: dict[str, Path | str],
        progress: Callable[[int], None] | None,
    ) -> SceneProducts | Exception:
        if isinstance(source, Exception):
            return source
        if isinstance(radar, Exception):
            return radar
        other = names.setdefault(source.name, path)
        if other != path:  # their products would overwrite each other
            number = next(number for number in count(2) if names.setdefault(f"{source.name}_{number}", path) == path)
            source = replace(source, name=f"{source.name}_{number}")
        try:
            return scene_products(source, self._models, self.out_dir, self._options, radar, progress)
        except CloudAssetsError as error:
            return error
        except Exception as error:  # whatever a library raises in one scene must not take the others with it
            return _unexpected(path, error)


def _scenes(
    path: Path | str, bands: Sequence[str] | None, instrument: str | None, scaling: Scaling | None
) -> list[tuple[Path | str, SceneSource | Exception]]:
    """What one name stands for, opened: often one scene, of a folder or a collection several."""
    paths = _attempt(scene_paths, path)
    if isinstance(paths, Exception):
        return [(path, paths)]
    return [(one, _attempt(open_scene, one, bands, instrument, scaling)) for one in paths]


def _attempt(act: Callable[..., Result], path: Path | str, *more: Any) -> Result | Exception:
    try:
        return act(path, *more)
    except CloudAssetsError as error:
        return error
    except Exception as error:  # whatever a library raises about one file must not take the other scenes with it
        return _unexpected(path, error)


def _unexpected(path: Path | str, error: Exception) -> CloudAssetsError:
    """An error that nobody foresaw, without its traceback, which is logged for who asks for it."""
    _log.debug("%s failed", path, exc_info=error)
    said = InvalidData(
        f"{path}: {type(error).__name__}: {error}. If the file is whole and the folders can be read and written, this "
        "is a defect of Cloud Assets: please report it with this line."
    )
    said.__cause__ = error
    return said
