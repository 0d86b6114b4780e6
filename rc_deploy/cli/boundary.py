"""The entry point, and the one place where errors become messages and exit codes.

It imports nothing that takes time: Ctrl-C must find it in place while everything else is still being imported.
"""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING

from rc_deploy.errors import InterruptedBySignalError, RcDeployError

# New objects between two searches for dead cycles. Imports make 100,000 that live: by Python's own 700 they would be
# searched a hundred times, a tenth of a second.
OBJECTS_BETWEEN_SEARCHES = 50_000

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def main() -> None:
    """Run the command line; the process exits with the code of the error's class."""
    gc.set_threshold(OBJECTS_BETWEEN_SEARCHES)
    interrupts: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as in a shell's background jobs, which Ctrl-C must not reach
        signal.signal(signal.SIGINT, interrupt)
    try:
        from rc_deploy.cli.app import application

        application("".join(sys.argv[1:2]))(standalone_mode=True)
    except BaseException as error:
        # Whatever ends the program after Ctrl-C was caused by it: some modules, interrupted while they are
        # imported, make an ImportError of it, and the command line's framework an exit code of its own.
        if interrupts or isinstance(error, KeyboardInterrupt | InterruptedBySignalError):
            _stop()
        if isinstance(error, RcDeployError):
            _fail(error)
        raise
    finally:
        gc.freeze()  # the end of the process needs no last search through everything
        signal.signal(signal.SIGINT, before)


def _stop() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to stop
    sys.stderr.write("Interrupted. Each output file is as it was, or complete.\n")
    sys.exit(InterruptedBySignalError.exit_code)


def _fail(error: RcDeployError) -> NoReturn:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text("error: ", style="bold red") + Text(str(error), style="default"))
    if error.hint:
        console.print(Text("  try: ", style="bold green") + Text(error.hint, style="default"))
    sys.exit(error.exit_code)
