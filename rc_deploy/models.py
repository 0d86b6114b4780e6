"""Finding a network by name among those that installed packages offer.

A package offers networks through the entry-point group `rc_deploy.models`: each entry is a mapping from name to a
factory `factory(**arguments) -> torch.nn.Module`. A checkpoint only ever names an architecture; which code that
is, is decided by what is installed, or by the user through `--model module:factory`.
"""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError, UnsupportedError, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

GROUP = "rc_deploy.models"
# Where lines of code lie that a user cannot mend: rc-deploy, Python itself, installed packages.
_NOT_THEIRS = (
    f"{Path(__file__).parent}/",
    "<frozen ",
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def create(architecture: str, arguments: Mapping[str, Any], factory: str | None = None) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        architecture: the name, e.g. "rescnet32".
        arguments: keyword arguments of its factory.
        factory: "module:callable" given by the user, taken instead of looking the name up.

    Raises:
        UnsupportedError: no installed package offers that name.
        InputError: the factory cannot be imported, fails on these arguments, or makes no network.
    """
    from torch import nn

    make = _import_factory(factory) if factory else _find(architecture)
    try:
        network = make(**arguments)
    except (Exception, SystemExit) as error:
        if factory:
            raise InputError(
                f"--model {factory} failed on the checkpoint's arguments {dict(arguments)}: {failure(error)}.",
                "Correct the factory: it must take these as keyword arguments and return a torch.nn.Module.",
            ) from error
        raise InputError(
            f"Architecture '{architecture}' does not take the arguments {dict(arguments)}: {reason(error)}.",
            "The checkpoint is damaged, or of another version of the package that defines the network.",
        ) from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{f'--model {factory}' if factory else f'Architecture {architecture!r}'} made a "
            f"{type(network).__name__}, not a network.",
            "Its factory must return a torch.nn.Module.",
        )
    return network


def failure(error: BaseException) -> str:
    """Return what someone else's code raised, and where: its own line, not the libraries' that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    place = f" at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""
    return f"{type(error).__name__}{place}: {' '.join(str(error).split())}"


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
    except (Exception, SystemExit) as error:
        raise InputError(
            f"--model {name} cannot be imported: {failure(error)}.",
            "Write it as package.module:callable, and make sure that `python -c 'import package.module'` works.",
        ) from error
    if not callable(factory):
        raise InputError(f"--model {name} names a {type(factory).__name__}, not a callable.", "Name a factory.")
    return factory
