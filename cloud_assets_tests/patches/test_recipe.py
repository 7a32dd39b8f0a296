import pytest
from pydantic import ValidationError

from cloud_assets.patches.recipe import PatchRecipe


def test_bands_alone_are_the_role_images() -> None:
    assert PatchRecipe(bands=("red", "nir")).role_bands == {"images": ("red", "nir")}


def test_pairs_name_their_roles() -> None:
    recipe = PatchRecipe(roles={"sar": ("VV", "VH"), "optical": ("B04",)})
    assert recipe.role_bands == {"sar": ("VV", "VH"), "optical": ("B04",)}
    assert PatchRecipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either bands"),
        ({"bands": ("red",), "roles": {"sar": ("VV",)}}, "either bands"),
        ({"bands": ("red", "red")}, "twice"),
        ({"roles": {"masks": ("VV",)}}, "cannot name a role"),
        ({"roles": {"../sar": ("VV",)}}, "cannot name a role"),
        ({"roles": {"sar": ()}}, "no bands"),
        ({"bands": ("red",), "resize": True}, "needs a size"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PatchRecipe(**fields)
