"""What a user at a terminal sees of a run: one line a step, what went wrong, and nothing of Dagster's own talk."""

import logging
import time
import warnings
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape

from cloud_assets import errors

LOGGER = "progress"
"""Key of the logger among those of the code location."""


def silence_notices() -> None:
    """Hides notices that a user can do nothing about."""
    for notice in (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
        warnings.filterwarnings("ignore", category=notice)
    # The published patches of several data sets have no georeference.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")


@dg.logger(config_schema={}, description="One line a step on the console.")
def progress_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """The console logger of the project's jobs."""
    logger = logging.Logger(LOGGER, level=logging.DEBUG)
    logger.addHandler(StepLines(Console(stderr=True, highlight=False, soft_wrap=True)))
    return logger


class StepLines(logging.Handler):
    """Prints those events of a run that mean something to a user.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._began: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a line for an event or a message, or nothing."""
        try:
            event = getattr(record, "dagster_event", None)
            text = _message(record) if event is None else self._line(event)
            if text:
                self._console.print(text)
        except (Exception, SystemExit):  # rich leaves the program when a pipe breaks; a run goes on without a reader
            self.handleError(record)

    def _line(self, event: Any) -> str:
        name = escape((event.step_key or "").replace("__", "/"))
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
            return f"[red]✗ {name}[/]\n{escape(_reason(event.step_failure_data.error))}"
        if event.is_job_failure:
            return "[red]The run failed.[/] What was finished before is kept and is not made anew by the next run."
        return ""


def _message(record: logging.LogRecord) -> str:
    """A message of an asset's own; Dagster's are below the level of information."""
    if record.levelno < logging.INFO:
        return ""
    meta = getattr(record, "dagster_meta", None) or {}
    colour = "yellow" if record.levelno >= logging.WARNING else "dim"
    return f"  [{colour}]{escape(str(meta.get('orig_message') or record.getMessage()))}[/]"


def _reason(error: Any) -> str:
    """The message of an error that was raised on purpose; of any other everything that is known about it."""
    cause = error
    while cause is not None:
        if cause.cls_name and (hasattr(errors, cause.cls_name) or cause.cls_name == "DagsterAssetCheckFailedError"):
            return str(cause.message).strip()
        cause = cause.cause
    return str(error.to_string()).strip()
