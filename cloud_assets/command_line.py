"""The command ``cloud-assets``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

app = typer.Typer(help="Machine learning for clouds in satellite imagery.", no_args_is_help=True, add_completion=False)
_CONSOLE = Console()


@app.callback()
def _commands() -> None:
    """Machine learning for clouds in satellite imagery."""


@app.command()
def sample(
    directory: Annotated[Path, typer.Argument(help="Folder to write the data sets into.")],
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set; may be given several times.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    scale: Annotated[float, typer.Option(help="Size relative to the embedded sample.")] = 1.0,
) -> None:
    """Write small synthetic data sets in the original data sets' own formats."""
    from cloud_assets.datasets.sample_writer import WRITERS, write_sample

    written = write_sample(directory, dataset or tuple(WRITERS), scale=scale, seed=seed)
    for one in written:
        _CONSOLE.print(f"[bold]{one.dataset}[/bold]: {one.contents} ({one.megabytes:.0f} MB, {one.seconds:.0f} s)")
    _CONSOLE.print(
        f"\nAll pixels are simulated. To use them:\n  export CLOUD_ASSETS_DATA={directory.absolute()}", soft_wrap=True
    )


def main() -> None:
    """Runs the command line; errors that a user can mend are shown without a traceback."""
    from cloud_assets.errors import CloudAssetsError

    try:
        app()
    except CloudAssetsError as error:
        Console(stderr=True).print("[bold red]Error:[/bold red]", escape(str(error)), soft_wrap=True)
        raise SystemExit(1) from error
