"""Reference pages of the documentation, written from the code: command line, environment, recipes, errors.

    python .ci/reference_pages.py [--check]

With ``--check`` nothing is written; the exit code is 1 if a page is not what the code says.
"""

import inspect
import sys
from pathlib import Path

import typer.main
from pydantic import BaseModel
from typer.cli import get_docs_for_click

from cloud_assets import command_line, errors
from cloud_assets.families import FAMILIES
from cloud_assets.learning.recipe import Optimisation
from cloud_assets.patches.augmentation import Augmentation
from cloud_assets.patches.recipe import PatchRecipe
from cloud_assets.patches.splits import GroupedSplit
from cloud_assets.reports.comparison import Gate
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.settings import PREFIX, Settings
from cloud_assets.simulation.patch import SimulationRecipe

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def main() -> int:
    """Writes or compares the pages."""
    pages = {"command_line": _commands(), "environment": _environment(), "recipes": _recipes(), "errors": _errors()}
    stale = []
    for name, text in pages.items():
        path = FOLDER / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    print(f"not what the code says: {', '.join(stale)}" if stale else "all pages are what the code says")
    return int(bool(stale) and "--check" in sys.argv)


def _commands() -> str:
    command = typer.main.get_command(command_line.app)
    context = typer.Context(command, info_name="cloud-assets")
    text: str = get_docs_for_click(obj=command, ctx=context, name="cloud-assets", title="Command line")
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def _environment() -> str:
    rows = [
        (f"`{PREFIX}{name.upper()}`", field.description or "", _default(field.default))
        for name, field in Settings.model_fields.items()
    ]
    rows.append(("`MLFLOW_TRACKING_URI`", "Tracking server or store of MLflow.", "a SQLite store in `mlflow/`"))
    return "# Environment variables\n\n" + _table(("variable", "meaning", "default"), rows)


def _recipes() -> str:
    models: dict[str, type[BaseModel]] = {
        "Patches": PatchRecipe,
        "Split": GroupedSplit,
        "Optimisation": Optimisation,
        "Augmentation": Augmentation,
        "Simulation": SimulationRecipe,
        "Gate": Gate,
        "Scene products": SceneOptions,
    }
    for family in FAMILIES.values():
        models[f"{family.name.capitalize()}: recipe"] = family.recipe
        models[f"{family.name.capitalize()}: evaluation"] = family.evaluator
    text = "# Recipes\n\nFields of run configurations and of tasks in YAML, with their defaults.\n"
    for title, model in models.items():
        rows = [
            (f"`{name}`", field.description or "", _default(field.get_default(call_default_factory=True)))
            for name, field in model.model_fields.items()
        ]
        text += f"\n## {title}\n\n{_first_line(model)}\n\n" + _table(("field", "meaning", "default"), rows)
    return text


def _errors() -> str:
    found = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, Exception)]
    rows = [(f"`{one.__name__}`", _first_line(one)) for one in found if one.__module__ == errors.__name__]
    return (
        "# Errors\n\nAll are `cloud_assets.errors.CloudAssetsError`; messages say which file, why, and what to do.\n\n"
        + _table(("class", "raised when"), rows)
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |\n" for row in lines
    )


def _default(value: object) -> str:
    if value is None or type(value).__name__ == "PydanticUndefinedType":
        return ""
    if isinstance(value, BaseModel):
        return f"see `{type(value).__name__}`"
    text = str(value)
    return f"`{text}`" if text and len(text) < 60 else "…" if text else ""


def _first_line(one: type) -> str:
    return (inspect.getdoc(one) or "").split("\n\n", maxsplit=1)[0]


if __name__ == "__main__":
    raise SystemExit(main())
