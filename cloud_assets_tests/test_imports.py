"""No module of the package needs another that needs it, however late or only for its types it is imported."""

import ast
from pathlib import Path

import networkx

ROOT = Path(__file__).resolve().parents[1]


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_there_are_no_import_circles() -> None:
    files = (ROOT / "cloud_assets").rglob("*.py")
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    graph = networkx.DiGraph(
        (name, other) for name, file in modules.items() for other in imported(file) & modules.keys() - {name}
    )
    circles = [sorted(circle) for circle in networkx.strongly_connected_components(graph) if len(circle) > 1]
    assert len(graph) > 100
    assert circles == []
