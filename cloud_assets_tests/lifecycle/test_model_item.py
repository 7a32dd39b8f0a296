"""A model as a STAC item: valid, and true to its card."""

import json

import pystac
import pytest
from pystac.extensions.mlm import MLMExtension

from cloud_assets.lifecycle.export import model_item
from cloud_assets.lifecycle.model_references import referenced_bundle
from cloud_assets_tests.scenes.fakes import make_bundle


@pytest.mark.parametrize("make", [make_bundle, lambda: referenced_bundle("simulation")])
def test_the_item_says_what_the_model_reads_and_answers(tmp_path, make):
    bundle = make()
    path = tmp_path / "stac_item.json"
    path.write_text(json.dumps(model_item(bundle, "./model", 3)))
    item = pystac.Item.from_file(str(path))
    told = MLMExtension.ext(item)
    assert [band.name for band in told.input[0].bands] == ["B4", "B3", "B2", "B5"]
    assert told.tasks == ["semantic-segmentation"]
    assert told.output[0].result.shape[1] == bundle.card.out_channels
    assert item.properties["version"] == "3"
    assert item.assets["model"].href == "./model/weights.safetensors"
    item.stac_extensions.clear()  # their schemas lie on the network
    item.validate()
