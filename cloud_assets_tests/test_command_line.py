import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_assets.datasets.samples import sample_writer
from cloud_assets.datasets.samples.sample_writer import WrittenSample


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from cloud_assets.command_line import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}
    )


def test_error_is_one_message_without_a_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "cloudsen12"
    folder.mkdir()
    (folder / "real.taco").write_bytes(b"")
    result = run("sample", str(tmp_path), "--dataset", "cloudsen12")
    assert result.returncode == 1
    assert "holds data that are no synthetic sample" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_the_commands() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "sample" in result.stdout


def test_summary_says_what_was_made_where_and_what_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cloud_assets import command_line

    asked: dict[str, object] = {}

    def pretend(root: Path, datasets: object, scale: float, seed: int) -> tuple[WrittenSample, ...]:
        asked.update(root=root, datasets=datasets, scale=scale, seed=seed)
        return (WrittenSample("38-cloud", root / "38-cloud", "12 patches", 3.2, 1.0),)

    monkeypatch.setattr(sample_writer, "write_sample", pretend)
    command_line.sample(tmp_path, dataset=["38-cloud"], seed=4, scale=0.5)
    assert asked == {"root": tmp_path, "datasets": ["38-cloud"], "scale": 0.5, "seed": 4}
    shown = capsys.readouterr().out
    assert "12 patches" in shown
    assert f"CLOUD_ASSETS_DATA={tmp_path}" in shown
