"""Notifications of failed runs, by a command or a webhook."""

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import dagster as dg

from cloud_assets.orchestration.asset_parts import run_url
from cloud_assets.settings import PREFIX, settings

NAME = "run_failure_notification"
COMMAND, WEBHOOK = f"{PREFIX}NOTIFY_COMMAND", f"{PREFIX}NOTIFY_WEBHOOK"
_SECONDS = 30
_MESSAGE_LENGTH = 4000


@dg.run_failure_sensor(
    name=NAME,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        f"Hands a JSON object about each failed run to the command in {COMMAND} (on its standard input) and posts "
        f"it to the address in {WEBHOOK}."
    ),
)
def failure_sensor(context: dg.RunFailureSensorContext) -> None:
    """The sensor that reports every failed run of this code location."""
    steps = context.get_step_failure_events()
    notify(
        {
            "event": "run_failure",
            "job": context.dagster_run.job_name,
            "run_id": context.dagster_run.run_id,
            "started_by": context.dagster_run.tags.get("cloud_assets/started_by", ""),
            "steps": [step.step_key for step in steps],
            "text": f"{context.dagster_run.job_name} failed: {_reason(context, steps)}"[:_MESSAGE_LENGTH],
            "url": run_url(context.dagster_run.run_id),
        },
        context.log.warning,
    )


def notify(message: dict[str, object], warn: Callable[[str], None]) -> None:
    """Delivers a message by all means that the environment names; one that does not work is no error.

    The command is started without a shell and gets the message on its standard input, so that nothing in it is ever
    executed. ``text`` is the key that chat webhooks show. ``warn`` is called with one sentence for each means that
    failed; it never holds the webhook's address, which is a secret.
    """
    body = json.dumps(message)
    command, webhook = settings().notify_command, settings().notify_webhook
    if not command and not webhook:
        warn(f"No notification of run {message.get('run_id')} was sent: set {COMMAND} or {WEBHOOK}.")
    if command:
        try:
            subprocess.run(shlex.split(command), input=body, text=True, timeout=_SECONDS, check=True)  # noqa: S603
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            warn(f"{COMMAND} failed: {error}")
    if webhook and urlsplit(webhook.get_secret_value()).scheme not in ("http", "https"):
        warn(f"{WEBHOOK} must begin with https:// or http://.")
    elif webhook:
        import requests

        try:
            answer = requests.post(webhook.get_secret_value(), json=message, timeout=_SECONDS)
            if not answer.ok:
                warn(f"{WEBHOOK} answered {answer.status_code}.")
        except requests.RequestException as error:
            warn(f"{WEBHOOK} cannot be reached ({type(error).__name__}).")


def _reason(context: dg.RunFailureSensorContext, steps: Sequence[dg.DagsterEvent]) -> str:
    """What the first failed step said at the root of its error, else what the run says."""
    for step in steps:
        error = step.step_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return f"{step.step_key}: {error.message.strip()}"
    return context.failure_event.message or "no reason was given"
