"""Drift features of a few windows of a scene."""

from collections.abc import Iterator
from pathlib import Path

from cloud_assets.errors import InvalidScene
from cloud_assets.families import family_of
from cloud_assets.families.scene_product import DEFAULT_PATCH
from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.tiling.windows import Tiling
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.drift_reference import image_features
from cloud_assets.scenes.planning import fitted_preprocessing
from cloud_assets.scenes.product_record import RECORD_FILE, SceneProducts

_LEAST_VALID = 0.2


def predicted_scenes(folder: Path, task: str) -> Iterator[SceneProducts]:
    """Finished products in which a task's model had a part, by name.

    Args:
        folder: Searched at any depth; a missing folder holds none.
        task: Name of the task.
    """
    for record in sorted(folder.rglob(RECORD_FILE)):
        if any(part.startswith(".") for part in record.relative_to(folder).parts):
            continue
        try:
            products = SceneProducts.open(record.parent)
        except InvalidScene:
            continue  # being replaced at this moment, or incomplete: its next version will be seen
        if any(model.partition("/")[0] == task for model in products.models):
            yield products


def observe_scene(source: SceneSource, bundle: ModelBundle, most: int) -> list[dict[str, float]]:
    """Features of windows at equal distances over a scene.

    Windows have the size of the model's training patches, for statistics of larger ones would spread less.

    Args:
        source: The scene.
        bundle: The model that looks at it.
        most: Most windows to look at.

    Returns:
        One entry a window that holds enough data: features of pixels and answer.

    Raises:
        CloudAssetsError: If the model cannot read the scene.
    """
    card = bundle.card
    fitted = fitted_preprocessing(card, source, accept_other_level=True)
    family = family_of(bundle)
    predictor = family.predictor(bundle.with_card(preprocessing=fitted))
    side = card.patch_size or DEFAULT_PATCH
    tiling = Tiling.plan(source.grid.height, source.grid.width, side, 0, fixed=True)
    positions = list(tiling.positions())
    # An odd stride meets all columns of a grid of windows, not the same few in every row.
    stride = max(1, -(-len(positions) // most)) | 1 if len(positions) > most else 1
    rows = []
    with source.read_as(card.preprocessing.instrument).open(fitted.bands) as reader:
        for position in positions[::stride][:most]:
            dn = reader.read(tiling.window(position))
            if reader.valid(dn).mean() < _LEAST_VALID:
                continue
            answer = predictor.predict(dn[None])
            rows.append({**image_features(dn, fitted, card.bands), **family.answer_features(answer)})
    return rows
