"""What a terminal shows of a run."""

import io
import logging
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from cloud_assets.errors import InvalidRecipe
from cloud_assets.orchestration import console as module
from cloud_assets.orchestration.console import StepLines


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the log file goes."""
    monkeypatch.setenv("CLOUD_ASSETS_HOME", str(tmp_path))
    return tmp_path


def shown(*assets: dg.AssetsDefinition, monkeypatch: pytest.MonkeyPatch) -> str:
    """The console's text after a run of some assets."""
    stream = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=stream, width=200))
    job = dg.Definitions(
        assets=list(assets),
        loggers={module.LOGGER: module.progress_logger},
        jobs=[dg.define_asset_job("job", config={"loggers": {module.LOGGER: {"config": {}}}})],
        executor=dg.in_process_executor,
    ).resolve_job_def("job")
    job.execute_in_process(raise_on_error=False)
    return stream.getvalue()


def body(work: Callable[[dg.AssetExecutionContext], None]) -> dg.AssetsDefinition:
    @dg.asset(key=["task", "unet_model"])
    def asset(context: dg.AssetExecutionContext) -> None:
        work(context)

    return asset


def test_a_step_is_one_line_with_its_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(context: dg.AssetExecutionContext) -> None:
        context.log.debug("detail")
        context.log.info("36 scenes [of 40]")

    lines = shown(body(work), monkeypatch=monkeypatch).splitlines()
    assert lines[0] == "▸ task/unet_model"
    assert lines[1] == "  36 scenes [of 40]"
    assert lines[2].startswith("✓ task/unet_model 0.")
    assert len(lines) == 3


def test_an_error_of_ours_is_its_message_alone_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(context: dg.AssetExecutionContext) -> None:
        raise InvalidRecipe("clip must rise, not [0.5, 0.1].")

    text = shown(body(work), monkeypatch=monkeypatch)
    assert "✗ task/unet_model\nInvalidRecipe: clip must rise, not [0.5, 0.1]." in text
    assert text.count("clip must rise") == 1
    assert "Traceback" not in text
    assert "File " not in text
    assert "is kept" not in text  # nothing was finished


def test_the_log_file_has_what_the_terminal_is_spared(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(context: dg.AssetExecutionContext) -> None:
        warnings.warn_explicit("one of a library", UserWarning, "/somewhere/library.py", 1)
        logging.getLogger("library").warning("another of a library")
        logging.getLogger("cloud_assets.somewhere").warning("one of ours")
        raise InvalidRecipe("clip must rise.")

    text = shown(body(work), monkeypatch=monkeypatch)
    log = home / "logs" / "cloud_assets.log"
    assert text.rstrip().endswith(f"Log: {log}")
    logged, terminal = log.read_text(encoding="utf-8"), text + capsys.readouterr().err
    assert all(said in logged for said in ("one of a library", "another of a library", "one of ours", "STEP_START"))
    assert "of a library" not in terminal
    assert terminal.count("one of ours") == 1


def test_what_failed_is_said_again_at_the_end_and_steps_that_never_began_are_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @dg.asset
    def a_scenes() -> None:
        raise InvalidRecipe("clip must rise.\n  a list of reasons")

    @dg.asset(deps=[a_scenes])
    def patches() -> None: ...

    @dg.asset
    def z_other() -> None: ...

    text = shown(a_scenes, patches, z_other, monkeypatch=monkeypatch)
    assert text.count("clip must rise.") == 2
    assert "is kept" in text
    assert text.rstrip().endswith("clip must rise.")
    assert text.count("a list of reasons") == 1
    assert "patches" not in text


def test_what_failed_in_a_process_of_its_own_is_said_once(tmp_path: Path) -> None:
    definitions = tmp_path / "definitions.py"
    definitions.write_text(
        textwrap.dedent(
            """
            import dagster as dg
            from cloud_assets.errors import InvalidRecipe
            from cloud_assets.orchestration import console

            @dg.asset
            def patches() -> None:
                raise InvalidRecipe("clip must rise.")

            loggers = {"loggers": {console.LOGGER: {"config": {}}}}
            defs = dg.Definitions(
                assets=[patches],
                loggers={console.LOGGER: console.progress_logger},
                jobs=[dg.define_asset_job("job", config=loggers)],
                executor=dg.multiprocess_executor,
            )
            """
        )
    )
    command = [sys.executable, "-m", "dagster", "job", "execute", "-f", str(definitions), "-j", "job"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert said.count("clip must rise.") == 1, said
    assert said.count("The run failed.") == 1


def test_an_unforeseen_error_shows_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(context: dg.AssetExecutionContext) -> None:
        raise ZeroDivisionError("division by zero")

    text = shown(body(work), monkeypatch=monkeypatch)
    assert "division by zero" in text
    assert "test_console.py" in text


def test_a_failed_check_says_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("no_leakage", asset="splits", blocking=True)])
    def splits() -> dg.MaterializeResult:
        result = dg.AssetCheckResult(check_name="no_leakage", passed=False, description="2 groups leak")
        return dg.MaterializeResult(check_results=[result])

    text = shown(splits, monkeypatch=monkeypatch)
    assert "check no_leakage did not pass: 2 groups leak" in text
    assert "File " not in text


def test_the_handler_never_stops_a_run() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no reader")

    handler = StepLines(Console(file=Broken()))
    record = dg.get_dagster_logger().makeRecord("x", 20, "f", 1, "text", (), None)
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    handler.emit(record)
