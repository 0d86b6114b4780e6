"""The application and its commands.

Nothing heavy is imported here: `rc-deploy --help` must answer at once.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rc_deploy import __version__
from rc_deploy.cli import commands
from rc_deploy.errors import InterruptedBySignalError

COMMAND_GROUP = "rc_deploy.commands"

if TYPE_CHECKING:
    from collections.abc import Callable


def application(asked: str = "") -> typer.Typer:
    """Return the application: with one command where it is the toolkit's own, with all where there is none so called.

    Typer makes every command it knows before it runs one, and takes milliseconds for each.

    Args:
        asked: the command's name.
    """
    app = typer.Typer(
        name="rc-deploy",
        help="Takes ResCNet/GCLU checkpoints to fast inference engines and proves that they compute the same.",
        epilog="Data flows one way: train -> export -> build -> validate, bench -> report. "
        "Exit codes: see the README, or `rc-deploy doctor`.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # its panels would cost --help a third of its time
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    own = {command.__name__: command for command in commands.ALL}
    if asked in own:
        _add(app, asked, own[asked])
        return app
    from importlib.metadata import entry_points  # reads the lists of everything that is installed

    for entry in sorted(entry_points(group=COMMAND_GROUP), key=lambda entry: entry.name):
        _add(app, entry.name, entry.load())
    for name, command in own.items():
        _add(app, name, command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rc-deploy {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _add(app: typer.Typer, name: str, command: Callable[..., None] | typer.Typer) -> None:
    """Add a command, or a group of commands."""
    if not isinstance(command, typer.Typer):
        app.command(name)(_interruptible(command))
        return
    for member in command.registered_commands:
        if member.callback is not None:
            member.callback = _interruptible(member.callback)
    app.add_typer(command, name=name)


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with Ctrl-C turned into an error of ours before the framework swallows it."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise InterruptedBySignalError("Interrupted.") from None

    return wrapped
