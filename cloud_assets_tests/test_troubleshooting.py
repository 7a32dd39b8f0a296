"""The page that explains messages: it quotes messages that the code has, and leaves out no class of errors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cloud_assets import errors

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "how_to" / "troubleshooting.md").read_text(encoding="utf-8")
GAP = "…"


def templates() -> Iterator[str]:
    """All texts of the package, with gaps where values are put in."""
    for path in sorted((ROOT / "cloud_assets").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted() -> list[str]:
    return re.findall(r"^\| `(.+?)` \|", PAGE, flags=re.MULTILINE)


def test_every_quoted_message_is_in_the_code() -> None:
    known = list(templates())
    for message in quoted():
        pieces = [re.escape(piece) for piece in message.split(GAP)]
        pattern = re.compile(".*".join(pieces), flags=re.DOTALL)
        assert any(pattern.search(template) for template in known), message


def test_every_class_has_its_messages() -> None:
    sections = re.split(r"^## (?=`)", PAGE, flags=re.MULTILINE)[1:]
    assert all("| `" in section for section in sections)
    headed = {name for section in sections for name in re.findall(r"`(\w+)`", section.splitlines()[0])}
    classes = {value for value in vars(errors).values() if isinstance(value, type)}
    raised = {kind.__name__ for kind in classes if issubclass(kind, errors.CloudAssetsError)}
    assert headed == raised - {"CloudAssetsError"}
