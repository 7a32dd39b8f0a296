"""The commands ``cloud-assets models``: versions, and changes of champions by hand."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="List, approve, reject or roll back models.", no_args_is_help=True)
_Task = Annotated[str, typer.Argument(help="Name of the task.")]
_Version = Annotated[int | None, typer.Option(help="A version; default: the challenger that waits for approval.")]
_Reason = Annotated[str, typer.Option(help="Why; noted with the version.")]


@app.command("list")
def list_versions(task: Annotated[str | None, typer.Argument(help="Name of a task; default: all.")] = None) -> None:
    """Show the versions of registered models. Newest first, with what was decided about each."""
    from cloud_assets.lifecycle.promotion import CHALLENGER, CHAMPION
    from cloud_assets.tracking import Tracker

    tracker = Tracker()
    names = [task] if task else tracker.registered_tasks()
    for name in names:
        at = {alias: found.version for alias in (CHAMPION, CHALLENGER) if (found := tracker.version_at(name, alias))}
        table = Table("version", "alias", "variant", "champion since", "decision", title=name, title_justify="left")
        for version in tracker.versions(name):
            since = version.tags.get("champion_since", "")[:16].replace("T", " ")
            aliases = ", ".join(alias for alias, number in at.items() if number == version.version)
            variant, said = version.tags.get("variant", ""), version.tags.get("decision", "")
            table.add_row(str(version.version), aliases, variant, since, said)
        Console().print(table if table.row_count else f"{name}: no registered model in {tracker.uri}")
    if not names:
        Console().print(f"No registered model in {tracker.uri}.")


@app.command()
def approve(task: _Task, version: _Version = None) -> None:
    """Make the waiting challenger champion. Or any other version."""
    from cloud_assets.lifecycle.promotion import approve as approve_version
    from cloud_assets.tracking import Tracker

    typer.echo(f"{task}: version {approve_version(Tracker(), task, version).version} is champion.")


@app.command()
def reject(task: _Task, reason: _Reason = "no reason given", version: _Version = None) -> None:
    """Turn the waiting challenger down. Or any other version; it is not promoted later."""
    from cloud_assets.lifecycle.promotion import reject as reject_version
    from cloud_assets.tracking import Tracker

    turned_down = reject_version(Tracker(), task, reason, version)
    typer.echo(f"{task}: version {turned_down.version} is rejected; the champion stays.")


@app.command()
def rollback(
    task: _Task,
    reason: _Reason = "no reason given",
    to: Annotated[int | None, typer.Option(help="Where to; default: the champion before the present one.")] = None,
) -> None:
    """Make the former champion champion again. The present one is not promoted again by itself."""
    from cloud_assets.lifecycle.promotion import rollback as roll_back
    from cloud_assets.tracking import Tracker

    before, now = roll_back(Tracker(), task, reason, to)
    instead = "" if before is None else f" instead of version {before.version}"
    typer.echo(f"{task}: version {now.version} is champion{instead}.")
