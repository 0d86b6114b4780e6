"""Parts of Markdown files that scripts write: what stands between `<!-- NAME: ... -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


class MarkersError(ValueError):
    """A file does not have a part exactly once; says which, and what to write there."""


def inside(text: str, name: str, file: str) -> str:
    """Return the part of that name, without the lines around it.

    Raises:
        MarkersError: it is not there once.
    """
    return _found(text, name, file)[2]


def replaced(text: str, name: str, content: str, file: str) -> str:
    """Return `text` with another content between the two markers, each of which keeps its line.

    Raises:
        MarkersError: the part is not there once.
    """
    found = _found(text, name, file)
    return f"{text[: found.start(2)]}\n{content.strip()}\n\n{text[found.end(2) :]}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell stays one."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def cells(part: str) -> list[list[str]]:
    """Return the cells of a table's rows, without its headings."""
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def write(files: Mapping[Path, str], check: bool, command: str) -> int:
    """Write every file that says something else, or with `check` name it; 1 where a check found one.

    Args:
        files: what each of them should say.
        check: write nothing.
        command: that writes them, for the message.
    """
    stale = [path for path, text in files.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.name} does not say what it was made from: run `{command}` and commit it.", file=sys.stderr)
        else:
            path.write_text(files[path], encoding="utf-8")
            print(f"{path.name} was written.")
    return int(check and bool(stale))


def _found(text: str, name: str, file: str) -> re.Match[str]:
    pattern = rf"(<!-- {re.escape(name)}:[^>]*-->\n)(.*?)(?=<!-- end of {re.escape(name)} -->)"
    found = list(re.finditer(pattern, text, re.DOTALL))
    if len(found) != 1:
        raise MarkersError(
            f"{file} has {len(found)} parts named {name!r}, not one: write a line `<!-- {name}: where it comes "
            f"from -->` before it, and `<!-- end of {name} -->` behind it."
        )
    return found[0]
