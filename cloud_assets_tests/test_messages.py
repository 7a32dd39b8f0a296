"""Every message of an error that is raised on purpose says what to do, or what would be accepted."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cloud_assets import errors

PACKAGE = Path(errors.__file__).parent
DO = (
    r"\b(accept|add|apply|ask|catalog|choose|compare|convert|copy|correct|cut|delete|divide|do|download|evaluate|export|free|"
    r"give|install|keep|leave|let|look|lower|make|materialise|mend|move|name|overlap|part|put|refer|remove|rename|repair|"
    r"replace|report|restore|round|run|save|say|set|start|take|train|try|unpack|use|wait|write)\b"
)
ACCEPTED = (
    r"\b(must|needs?|needed|has to|have to|there (is|are)|it (has|holds)|are read|none of|expected|can only|is for|"
    r"either|takes|got|see)\b"
)
ADVICE = {"remedy", "hint", "advice", "how_to_get", "missing", "columns", "why_not_exported", "problem"}
"""Values that hold the advice, where it differs from case to case."""
LISTED = {"cloud38.py", "cloudsen12.py", "sen12ms.py"}
"""Reasons for which a file is left out: they stand below the message that says to mend or remove such files."""


def messages() -> Iterator[tuple[str, str, set[str]]]:
    """Place, text and names of values of each message."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                parts = [part for argument in node.args for part in ast.walk(argument)]
                texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                names = {part.id for part in parts if isinstance(part, ast.Name)}
                names |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", " ".join(texts), names


def test_every_message_says_what_to_do() -> None:
    found = list(messages())
    assert len(found) > 300
    silent = []
    for place, text, names in found:
        is_whole = len(text.split()) > 4 and place.split(":")[0].split("/")[-1] not in LISTED
        advises = re.search(f"{DO}|{ACCEPTED}", text, re.IGNORECASE)
        if is_whole and not advises and not names & ADVICE:
            silent.append(f"{place} {text}")
    assert silent == []
