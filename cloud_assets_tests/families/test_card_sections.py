"""Typed views of what a family's model cards hold."""

import pytest

from cloud_assets.errors import InvalidModel
from cloud_assets.families import FAMILIES
from cloud_assets.families.segmentation.recipe import SegmentationSection
from cloud_assets_tests.families.conftest import make_card
from cloud_assets_tests.made_up_family import MADE_UP


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != MADE_UP])
def test_a_card_of_another_family_is_refused(name: str) -> None:
    with pytest.raises(InvalidModel, match=f"clouds/unet: .* the family '{name}' .*required.* Train the model again"):
        FAMILIES[name].card_section.of(make_card(family=name, details={"something": 1}))


def test_older_cards_have_no_border_and_other_steps_have_sections_of_their_own() -> None:
    section = SegmentationSection.of(make_card(details={"cloud_classes": [1], "training_reference": {"bands": []}}))
    assert section == SegmentationSection(cloud_classes=(1,), test_time_augmentation=False, mirrored_border=0)
    assert section.details() == {
        "cloud_classes": [1],
        "test_time_augmentation": False,
        "mirrored_border": 0,
        "outline_metres": 0.0,
    }
