"""The environment variables that operators set."""

import warnings

import pytest

from cloud_assets.errors import InvalidRecipe
from cloud_assets.settings import Settings, settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLOUD_ASSETS_STALE_DAYS", "soon"),
        ("CLOUD_ASSETS_STALE_DAYS", "-1"),
        ("CLOUD_ASSETS_KEEP_TRAININGS", "0"),
        ("CLOUD_ASSETS_TIMEZONE", "Europe/Nowhere"),
        ("CLOUD_ASSETS_RUN_CONFIGS", "absent"),
        ("CLOUD_ASSETS_APPROVAL", "perhaps"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRecipe, match=name):
        settings()


def test_an_unknown_variable_is_told_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_RETRAINING_CRON_SAR_TO_OPTICAL", "0 1 * * *")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings()
    monkeypatch.setenv("CLOUD_ASSETS_INBOKS", "/scenes")
    with pytest.warns(UserWarning, match="CLOUD_ASSETS_INBOKS .* CLOUD_ASSETS_INBOX"):
        assert settings().inbox is None


def test_empty_variables_are_unset_ones_and_case_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_HOME", "")
    monkeypatch.setenv("CLOUD_ASSETS_APPROVAL", "Manual")
    assert (settings().home, settings().approval) == ("data", "manual")


def test_the_address_of_the_webhook_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_NOTIFY_WEBHOOK", "https://chat.example/token")
    assert "token" not in f"{settings()!r} {settings().model_dump_json()}"


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
