"""Checks of the arguments that networks are built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def require_known(name: str, value: str, known: Collection[str]) -> None:
    """Raise ValueError unless `value`, the argument called `name`, is one of those known."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not '{value}'")


def require_positive(**arguments: int) -> None:
    """Raise ValueError for an argument below 1."""
    for name, value in arguments.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
