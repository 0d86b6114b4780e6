"""Finding a network by name among those that installed packages offer.

A package offers networks through the entry-point group `rc_deploy.models`: each entry is a mapping from name to a
factory `factory(**arguments) -> torch.nn.Module`. A checkpoint only ever names an architecture; which code that
is, is decided by what is installed, or by the user through `--model module:factory`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError, UnsupportedError, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

GROUP = "rc_deploy.models"


def create(architecture: str, arguments: Mapping[str, Any], factory: str | None = None) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        architecture: the name, e.g. "rescnet32".
        arguments: keyword arguments of its factory.
        factory: "module:callable" given by the user, taken instead of looking the name up.

    Raises:
        UnsupportedError: no installed package offers that name.
        InputError: the factory cannot be imported, or a registered one does not take these arguments.
    """
    if factory:
        # The user's own code: what it raises is theirs to see whole.
        return _import_factory(factory)(**arguments)
    make = _find(architecture)
    try:
        return make(**arguments)
    except Exception as error:  # noqa: BLE001 (arguments from a file can make a factory fail in any way there is)
        raise InputError(
            f"Architecture '{architecture}' does not take the arguments {dict(arguments)}: {reason(error)}.",
            "The checkpoint is damaged, or of another version of the package that defines the network.",
        ) from None


def available() -> dict[str, Callable[..., nn.Module]]:
    """Return the factories of every installed package, by name of architecture."""
    factories: dict[str, Callable[..., nn.Module]] = {}
    for entry in entry_points(group=GROUP):
        factories.update(entry.load())
    return factories


def _find(architecture: str) -> Callable[..., nn.Module]:
    factories = available()
    if architecture not in factories:
        raise UnsupportedError(
            f"No installed package offers an architecture named '{architecture}'. "
            f"Known: {', '.join(sorted(factories)) or 'none'}.",
            "Install the package that defines it, or pass --model module:factory.",
        )
    return factories[architecture]


def _import_factory(name: str) -> Callable[..., nn.Module]:
    module, _, attribute = name.partition(":")
    try:
        factory: Callable[..., nn.Module] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"--model {name} cannot be imported: {error}.", "Write it as package.module:callable."
        ) from None
    return factory
