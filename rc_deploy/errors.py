"""One exception class per exit code; everything a user can meet derives from `RcDeployError`.

A message says what happened and where; `hint` says the likely cause and the next command to run. The command
line prints both without a traceback and exits with the class's `exit_code`. Any other exception is a bug in
rc-deploy and keeps its traceback. This module imports nothing of rc_deploy: everything else may import it.
"""

from __future__ import annotations

import re

# How the stack begins that C++ libraries append to their messages (PyTorch's c10::Error, ONNX Runtime).
_STACK = re.compile(r"\s*(\(?Exception raised from |frame #\d+: |Stack ?trace:)", re.IGNORECASE)
_LONGEST_REASON = 300


class RcDeployError(Exception):
    """An error with a cause that the user can act on."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(RcDeployError):
    """An input file is missing, empty, truncated, corrupt, hostile or of the wrong kind."""

    exit_code = 3


class OutputError(RcDeployError):
    """An output could not be written (folder missing or read-only, disk full), or would replace what must stay."""

    exit_code = 4


class MissingDependencyError(RcDeployError):
    """A Python package that this command needs is not installed."""

    exit_code = 5


class UnsupportedError(RcDeployError):
    """This machine, library version or model cannot do what was asked."""

    exit_code = 6


class BuildError(RcDeployError):
    """The inference library refused the model, or built something other than what was asked."""

    exit_code = 7


class ParityError(RcDeployError):
    """An artefact does not compute what its reference computes."""

    exit_code = 8


class SlowerError(RcDeployError):
    """An artefact is slower than its baseline allows."""

    exit_code = 9


class InterruptedBySignalError(RcDeployError):
    """Interrupted by Ctrl-C (SIGINT); each output file is as it was, or complete."""

    exit_code = 130


def reason(error: BaseException) -> str:
    """Return what a library's exception says, in one line fit for a message: no C++ stack, no page of detail."""
    text = " ".join(_STACK.split(str(error), maxsplit=1)[0].split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON].rstrip() + "…"


def exit_codes() -> dict[int, str]:
    """Return every documented exit code with its meaning, in ascending order."""
    codes = {0: "Success.", 1: "A bug in rc-deploy: a traceback is printed.", 2: "Wrong use of the command line."}
    for error in RcDeployError.__subclasses__():
        codes[error.exit_code] = str(error.__doc__)
    return dict(sorted(codes.items()))
