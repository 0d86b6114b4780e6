"""Tables as text: a line per row however narrow the terminal is, so that they can be searched, or Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rc_deploy.decode import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[str] = ()) -> list[str]:
    """Return the head and a line per row in columns; those of `numbers`, named as in the head, end where they do."""
    right = [name in set(numbers) for name in head]
    cleaned = [[clean(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cleaned, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if ends else cell.ljust(width)
            for cell, width, ends in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cleaned
    ]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in (head, ["---"] * len(head), *rows))


def accuracy(percent: float) -> str:
    """Return an accuracy with the digits of the paper: two, or three where the third is not 0."""
    return f"{percent:.3f}".removesuffix("0")


def setting(key: str, value: Any) -> str:
    """Return a key of a recipe and its value, e.g. "augment=crop,flip"; the options of a network one by one."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or f"no {key}"
    if isinstance(value, list):
        return f"{key}={','.join(map(str, value)) or 'none'}"
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


def _escaped(cell: str) -> str:
    return clean(cell).replace("\\", "\\\\").replace("|", "\\|")
