"""Reference pages of the documentation, written from the code: command line, environment, recipes, errors.

    python .ci/reference_pages.py [--check]

With ``--check`` nothing is written; the exit code is 1 if a page is not what the code says.
"""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel
from typer.cli import get_docs_for_click

import cloud_assets
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
    pages = {
        "command_line": _commands(),
        "python": _python(),
        "assets": _assets(),
        "environment": _environment(),
        "recipes": _recipes(),
        "errors": _errors(),
    }
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


def _python() -> str:
    text = f"# Python\n\n{_docstring(cloud_assets).partition(chr(10))[2].strip()}\n"
    for name in cloud_assets.__all__:
        one = getattr(cloud_assets, name)
        if callable(one):
            text += f"\n## `{name}`\n\n```python\n{name}{_signature(one)}\n```\n\n{_docstring(one)}\n"
    return (
        text + "\n## `TASKS`\n\nA `Task` by its name: " + ", ".join(f"`{name}`" for name in cloud_assets.TASKS) + ".\n"
    )


def _signature(one: Callable[..., Any]) -> str:
    """One argument a line, types without their modules."""
    parameters = list(inspect.signature(one).parameters.values())
    shown = [re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", str(parameter)).replace("'xr", "xr") for parameter in parameters]
    keyword = [number for number, parameter in enumerate(parameters) if parameter.kind is parameter.KEYWORD_ONLY]
    shown = [*shown[: keyword[0]], "*", *shown[keyword[0] :]] if keyword else shown
    return "(\n" + "".join(f"    {argument},\n" for argument in shown) + ")"


def _docstring(one: Any) -> str:
    """Google's sections as Markdown: a list for arguments, returns and errors, code for examples."""
    lines, section = [], ""
    for line in (inspect.getdoc(one) or "").splitlines():
        if line in ("Args:", "Returns:", "Raises:", "Example:"):
            section = line
            lines += [f"**{line.removesuffix(':').replace('Args', 'Arguments')}**", ""]
        elif section == "Example:":
            lines.append(line)
        elif line.startswith("    ") and not line.startswith("     ") and section in ("Args:", "Raises:"):
            name, _, said = line.strip().partition(": ")
            lines.append(f"* `{name}`: {said}")
        elif line.startswith("    "):
            lines.append(f"  {line.strip()}" if section != "Returns:" else line.strip())
        else:
            lines.append(line)
    return re.sub(r":(?:func|class|data|meth):`~?([^`]+)`", r"`\1`", "\n".join(lines)).replace("``", "`")


def _assets() -> str:
    from cloud_assets.definitions import defs

    how = "`dg launch --job NAME` runs a job, `dg launch --assets 'key:\"A/B\"'` one asset."
    text = f"# Assets and jobs\n\n{how}\n\n## Jobs\n\n"
    repository = defs.get_repository_def()
    jobs = sorted((job for job in repository.get_all_jobs() if not job.name.startswith("__")), key=lambda job: job.name)
    text += _table(("job", "what it makes"), [(f"`{job.name}`", job.description or "") for job in jobs])
    graph = repository.asset_graph
    for group in sorted({graph.get(key).group_name for key in graph.get_all_asset_keys()}):
        nodes = [graph.get(key) for key in graph.toposorted_asset_keys if graph.get(key).group_name == group]
        rows = [(f"`{node.key.to_user_string()}`", (node.description or "").partition("\n")[0]) for node in nodes]
        text += f"\n## {group}\n\n" + _table(("asset", "what it is"), rows)
    return text


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
