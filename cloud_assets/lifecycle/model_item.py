"""A trained model as a STAC item of the machine-learning-model extension (MLM, version 1.4).

https://github.com/stac-extensions/mlm
"""

from typing import Any

from cloud_assets.bands import INSTRUMENTS
from cloud_assets.families import family_of
from cloud_assets.inference.bundle import CARD_FILE, WEIGHTS_FILE, ModelBundle


def model_item(bundle: ModelBundle, folder: str = ".", version: int | None = None) -> dict[str, Any]:
    """JSON content that describes a model for catalogues: what it reads, what it answers, where its files are.

    ``folder`` is where these are, seen from the item; ``version`` that of the registered model.
    """
    import pystac
    from pystac.extensions.mlm import (
        AssetGeneralMLMExtension,
        InputStructure,
        MLMExtension,
        ModelBand,
        ModelInput,
        ModelOutput,
        ResultStructure,
        TaskType,
    )
    from pystac.extensions.raster import DataType

    card = bundle.card
    profile = INSTRUMENTS[card.preprocessing.instrument]
    task = TaskType(family_of(bundle).stac_task)
    side = card.patch_size or -1
    item = pystac.Item(
        id=f"{card.task}-{card.variant}-{bundle.version[:8]}",
        geometry={"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
        bbox=[-180.0, -90.0, 180.0, 90.0],
        datetime=card.created,
        properties={
            "description": f"{card.task}: {card.variant}, trained on {profile.name} {', '.join(card.bands)}.",
            "cloud_assets:training_data_are_simulated": card.is_synthetic_training_data,
            **({"version": str(version)} if version is not None else {}),
            **{f"cloud_assets:validation_{name}": value for name, value in card.metrics.items() if value == value},
        },
    )
    shape, axes = [-1, len(card.bands), side, side], ["batch", "bands", "height", "width"]
    reads = ModelInput.create(
        name="scene",
        bands=[ModelBand.create(name=profile.find(band).name) for band in card.bands],
        input=InputStructure.create(shape, axes, DataType(profile.dtype)),
        description=f"Digital numbers of {profile.name}; the model card's preprocessing scales them.",
    )
    shape, axes = [-1, card.out_channels, side, side], ["batch", "classes", "height", "width"]
    answers = ModelOutput.create(
        name=card.task,
        tasks=[task],
        result=ResultStructure.create(shape, axes, DataType.FLOAT32),
        description=", ".join(card.classes) or None,
    )
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=f"{card.task}/{card.variant}",
        architecture=card.network.architecture,
        tasks=[task],
        input=[reads],
        output=[answers],
        framework="pytorch",
        framework_version=card.software.get("torch"),
        memory_size=bundle.size,
    )
    roles = ["mlm:model", "mlm:weights", "data"]
    weights = pystac.Asset(f"{folder}/{WEIGHTS_FILE}", "Weights", None, "application/vnd.safetensors", roles)
    item.add_asset("model", weights)
    AssetGeneralMLMExtension.ext(weights, add_if_missing=True).apply(artifact_type="safetensors")
    item.add_asset("card", pystac.Asset(f"{folder}/{CARD_FILE}", "Model card", None, "application/json", ["metadata"]))
    return dict(item.to_dict(include_self_link=False))
