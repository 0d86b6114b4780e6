"""The worker process, `python -m rc_deploy.engine.worker CHANNEL PARENT`: it compiles one graph and ends.

A library that aborts or runs wild ends this process and no other. CHANNEL is the descriptor of the pipe that messages
go to, PARENT the process that started it; the request comes through standard input. Standard output and error are a
file, which so holds everything that the library says, and what C++ prints when it ends a process.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rc_deploy.engine.channel import receive, send
from rc_deploy.engine.compiler import RefusedError, compile_graph
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.engine.registry import load_plugins
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import UnsupportedError

if TYPE_CHECKING:
    from typing import BinaryIO

    from rc_deploy.engine.settings import Progress

_PR_SET_PDEATHSIG = 1  # prctl(2)
# Severities that are told at once; the file has the others as well.
TOLD = {"INTERNAL_ERROR", "ERROR", "WARNING"}


def main() -> None:
    """Do what the request asks."""
    channel = os.fdopen(int(sys.argv[1]), "wb")
    _contain(parent=int(sys.argv[2]))
    if (request := receive(sys.stdin.buffer)) is None:
        return
    _answer(channel, *request)
    sys.stderr.flush()
    os._exit(0)  # the answer is out: destructors of the library can only spoil it


def _contain(parent: int) -> None:
    """End with the parent, leave Ctrl-C to it, and leave no core file behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be told
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(channel: BinaryIO, request: dict[str, object], blobs: list[bytes]) -> None:
    def on_message(severity: str, message: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end a build for the sake of its log
            os.write(2, f"[{severity}] {message}\n".encode())
        if severity in TOLD:
            send(channel, {"severity": severity, "message": message})

    def on_progress(progress: Progress) -> None:
        send(channel, {"progress": asdict(progress)})

    settings = Settings.from_json(request["settings"])  # type: ignore[arg-type]
    library = LIBRARIES[str(request["library"])]
    cache = blobs[1] if request["cache"] else None
    lib = importlib.import_module(library.module)
    try:
        if settings.plugin_library:
            load_plugins(lib, library, Path(settings.plugin_library))
        made = compile_graph(lib, blobs[0], settings, on_message, on_progress, cache)
    except RefusedError as refusal:
        send(channel, {"refused": refusal.phase, "errors": [asdict(error) for error in refusal.errors]})
    except UnsupportedError as error:
        send(channel, {"unsupported": str(error), "hint": error.hint})
    else:
        facts = {**asdict(made), "engine": None, "timing_cache": None}
        send(channel, {"compiled": facts}, made.engine, made.timing_cache)


if __name__ == "__main__":
    main()
