"""Console output of a run, without Dagster's own log: one line a step, what failed, and a task's summary at its end."""

import logging
import os
import shlex
import shutil
import sys
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from tqdm import tqdm

from cloud_assets import errors
from cloud_assets.log_file import keep_log, log_path
from cloud_assets.orchestration.resources import is_local
from cloud_assets.reports.comparison import Comparison
from cloud_assets.reports.report import readable

if TYPE_CHECKING:
    from rich.console import Console

LOGGER = "progress"  # key of the logger among those of the code location
_SHOWN_METRICS = 5
_CHAMPION_STEP = "__champion"


def silence_notices() -> None:
    """Hides notices that a user can do nothing about."""
    for notice in (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
        warnings.filterwarnings("ignore", category=notice)
    # tacoreader lets all libraries print what they do; these say at each request where their keys come from.
    for client in ("aiobotocore", "botocore"):
        logging.getLogger(client).setLevel(logging.WARNING)
    # The published patches of several data sets have no georeference.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")


@dg.logger(config_schema={}, description="One line a step on the console.")
def progress_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """The console logger of the project's jobs."""
    logger = logging.Logger(LOGGER, level=logging.DEBUG)
    logger.addHandler(keep_log())
    logger.addHandler(_lines(context.run_id))
    return logger


@lru_cache(maxsize=1)
def _lines(run_id: str | None) -> "StepLines":
    """One for a run and its steps, which Dagster gives a logger each."""
    from rich.console import Console

    return StepLines(Console(stderr=True, highlight=False, soft_wrap=True), str(log_path()))


class StepLines(logging.Handler):
    """Prints those events of a run that mean something to a user."""

    def __init__(self, console: "Console", log: str = "") -> None:
        super().__init__()
        self._console, self._log = console, log
        self._finished, self._last = False, ""
        self._began: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a line for an event or a message, or nothing."""
        try:
            event = getattr(record, "dagster_event", None)
            text = self._message(record) if event is None else self._line(event)
            if text:
                with tqdm.external_write_mode():  # a progress bar gives way
                    self._console.print(text)
        except (Exception, SystemExit):  # rich leaves the program when a pipe breaks; a run goes on without a reader
            self.handleError(record)

    def _line(self, event: Any) -> str:
        from rich.markup import escape

        name = _name(event.step_key)
        if event.is_step_success or event.is_step_failure:
            self._finished |= event.is_step_success
            self._last = event.step_key
        if event.is_step_start:
            self._began[name] = time.monotonic()
            return f"[cyan]▸[/] {name}"
        if event.is_step_success:
            seconds = time.monotonic() - self._began.get(name, time.monotonic())
            return f"[green]✓[/] {name} [dim]{seconds:.1f} s[/]"
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            result = event.asset_check_evaluation_data
            if not result.passed:
                return f"  [yellow]check {result.check_name} did not pass:[/] {escape(result.description or '')}"
        if event.is_step_failure:
            error = event.step_failure_data.error
            return f"[red]✗ {name}[/]\n{escape(_raised(error) or str(error.to_string()).strip())}"
        if event.is_job_failure:
            # Steps that are processes of their own are not seen here, and have said themselves what failed.
            is_kept = self._finished or not self._last
            kept = " What was finished before is kept and is not made anew by the next run." if is_kept else ""
            said = f"[red]The run failed.[/]{kept} Log: {escape(shortened(self._log))}"
            first = event.job_failure_data.first_step_failure_event
            # Other steps may have gone on for hours after the one that failed.
            again = _raised(first.step_failure_data.error).partition("\n")[0] if first else ""
            is_far = again and self._last not in ("", first.step_key)
            return f"{said}\n[red]✗ {_name(first.step_key)}[/] {escape(again)}" if is_far else said
        return ""

    def _message(self, record: logging.LogRecord) -> str:
        """A message of an asset; those of Dagster are below the level of information or of steps that never began."""
        from rich.markup import escape

        meta = getattr(record, "dagster_meta", None) or {}
        step = meta.get("step_key")
        if record.levelno < logging.INFO or (step and _name(step) not in self._began):
            return ""
        colour = "yellow" if record.levelno >= logging.WARNING else "dim"
        return f"  [{colour}]{escape(str(meta.get('orig_message') or record.getMessage()))}[/]"


def _name(step: str | None) -> str:
    return (step or "").replace("__", "/")


def _raised(error: Any) -> str:
    """The message of an error that was raised on purpose; empty for any other."""
    cause = error
    while cause is not None:
        if cause.cls_name and (hasattr(errors, cause.cls_name) or cause.cls_name == "DagsterAssetCheckFailedError"):
            return str(cause.message).strip().removeprefix(f"{errors.__name__}.")
        cause = cause.cause
    return ""


def shortened(path: Path | str) -> str:
    """A path as one would type it here."""
    return str(path).removeprefix(f"{Path.cwd()}/")


def command(name: str) -> str:
    """A command of this environment as one would type it here: without its folder if that is searched anyway."""
    path = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(path) else shlex.quote(shortened(path))


@dg.success_hook(required_resource_keys={"folders", "tracking"})
def summary_after_champion(context: dg.HookContext) -> None:
    """Prints the summary of a task once its champion is decided."""
    task, found, _ = context.op.name.partition(_CHAMPION_STEP)
    results = context.resources.folders.results
    if not found or not is_local(results):
        return
    from rich.console import Console
    from rich.table import Table

    from cloud_assets.lifecycle.promotion import Champion

    folder = Path(results.path) / task
    comparison, record = Comparison.open(folder / "comparison"), Champion.open(folder / "champion").record
    console = Console()
    names = [str(name) for name in comparison.table.columns if name not in ("name", "kind")][:_SHOWN_METRICS]
    table = Table("", *map(readable, names), title=f"{comparison.task}: test split", title_justify="left")
    for row in comparison.table.to_dict("records"):
        values = [f"{row[name]:.4f}" if row[name] == row[name] else "" for name in names]
        mark = " ★" if row["name"] == record.variant and row["kind"] == "variant" else ""
        table.add_row(f"{row['name']}{mark}", *values, style=None if row["kind"] == "variant" else "dim")
    console.print(table)
    if comparison.is_synthetic:
        console.print("The test images are simulated: these numbers say nothing about real imagery.", style="yellow")
    report = context.resources.folders.report(task, f"{record.challenger_variant}_report")
    home = "" if "DAGSTER_HOME" in os.environ else ", started in this folder"
    tracker, script = context.resources.tracking.tracker(), Path("mlflow/start_server.sh")
    is_here = tracker.store_folder == script.parent.resolve() and script.is_file()
    look = tracker.how_to_look().replace("mlflow ui", f"{command('mlflow')} ui")
    look = f"PYTHON={command('python')} {script}" if is_here else look
    lines = [
        f"★ champion  models:/{comparison.task}@champion, version {record.version}",
        f"            {record.reason}",
        f"report      {shortened(report)}",
        f"model       {shortened(folder / 'champion' / 'model')}",
        f"log         {shortened(log_path())}",
        "",
        "Next:",
        f"  {command('cloud-assets')} show {shortened(Path(report).parent)}   # the report, in the browser",
        f"  {command('cloud-assets')} predict SCENE --model simulation --out products   # masks of a scene of yours",
        f"  {command('dg')} dev   # lineage, runs and figures at http://127.0.0.1:3000{home}",
        f"  {look}   # trainings and registered models",
    ]
    # Never wrapped or cut: paths and commands are there to be copied.
    console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)
