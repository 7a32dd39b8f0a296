"""Which folders a run uses."""

from pathlib import Path
from typing import ClassVar

import pytest

from cloud_assets.datasets.dataset import Collection, Dataset
from cloud_assets.datasets.samples import SYNTHETIC_MARKER
from cloud_assets.errors import InvalidRecipe
from cloud_assets.orchestration.resources import Folders


class Counted(Dataset):
    """A data set whose sample is one file that says how often it was written."""

    folder: ClassVar[str] = "counted"
    title: ClassVar[str] = "Counted"
    how_to_get: ClassVar[str] = ""
    written: ClassVar[list[float]] = []

    def collect(self, folder: Path, cache: Path, progress: bool) -> Collection:
        return Collection([], [])

    def write_sample(self, data_root: Path, scale: float = 1.0, seed: int = 0, progress: bool = True) -> None:
        self.written.append(scale)
        (data_root / self.folder).mkdir()
        (data_root / self.folder / SYNTHETIC_MARKER).write_text("")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLOUD_ASSETS_DATA", raising=False)
    monkeypatch.delenv("CLOUD_ASSETS_HOME", raising=False)
    Counted.written.clear()


def test_without_environment_results_go_to_data(tmp_path: Path) -> None:
    assert str(Folders().results) == str(tmp_path / "data")
    assert Folders().working == tmp_path / "data"


def test_the_environment_at_the_time_of_the_run_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Folders()
    monkeypatch.setenv("CLOUD_ASSETS_HOME", str(tmp_path / "elsewhere"))
    assert folders.working == tmp_path / "elsewhere"
    assert str(Folders(home="given").results) == str(tmp_path / "given")


def test_an_object_store_needs_a_local_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Folders(home="memory://bucket/results")
    assert folders.results.protocol == "memory"
    monkeypatch.delenv("CLOUD_ASSETS_WORK", raising=False)
    with pytest.raises(InvalidRecipe, match="set CLOUD_ASSETS_WORK"):
        _ = folders.training
    monkeypatch.setenv("CLOUD_ASSETS_WORK", str(tmp_path / "work"))
    for started_from in ("one", "another"):
        (tmp_path / started_from).mkdir()
        monkeypatch.chdir(tmp_path / started_from)
        assert folders.training == tmp_path / "work" / ".training"


def test_the_sample_is_written_once(tmp_path: Path) -> None:
    for _ in range(2):
        assert Folders().raw_data(Counted(), "auto", 1.0) == tmp_path / "data" / "sample"
    assert Counted.written == [1.0]
    assert Folders().raw_data(Counted(), "auto", 0.5) == tmp_path / "data" / "sample-0.5"
    assert Counted.written == [1.0, 0.5]


def test_real_data_win_unless_the_sample_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_ASSETS_DATA", "real")
    assert Folders().raw_data(Counted(), "auto", 1.0) == tmp_path / "real"
    assert Counted.written == []
    assert Folders().raw_data(Counted(), "sample", 1.0) == tmp_path / "data" / "sample"
