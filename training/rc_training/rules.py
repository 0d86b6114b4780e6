"""What the keys of a recipe may be: a rule states it in words, for messages, and as a test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Rule:
    """What one key may be: `allowed` in words for messages, `accepts` as a test."""

    allowed: str
    accepts: Callable[[Any], bool]


def one_of(names: Iterable[str]) -> Rule:
    """Return the rule of a key that holds one of `names`."""
    known = tuple(names)
    return Rule(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and value in known)


def list_of(names: Iterable[str]) -> Rule:
    """Return the rule of a key that holds a list of some of `names`, in any order."""
    known = tuple(names)
    return Rule(
        f"a list of any of {', '.join(known)}, each once",
        lambda value: (
            isinstance(value, list) and all(item in known for item in value) and len(set(value)) == len(value)
        ),
    )


def whole(low: int, high: int) -> Rule:
    """Return the rule of a whole number; true and false are none."""
    return Rule(f"a whole number from {low:,} to {high:,}", lambda value: type(value) is int and low <= value <= high)


def number(low: float, high: float) -> Rule:
    """Return the rule of any number between two limits."""
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


def arguments(reserved: Iterable[str]) -> Rule:
    """Return the rule of a table of keyword arguments, none of them one of `reserved`."""
    taken = tuple(reserved)
    return Rule(
        f"a table of texts, numbers and true or false, with no {' or '.join(taken)}: other keys decide those",
        lambda value: (
            isinstance(value, dict)
            and all(name.isidentifier() and name not in taken for name in value)
            and all(_is_plain(item) for item in value.values())
        ),
    )


def _is_plain(value: Any) -> bool:
    """Return whether JSON gives the value back as it was."""
    return type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))
