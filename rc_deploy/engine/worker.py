"""The worker process, `python -m rc_deploy.engine.worker CHANNEL ANSWER LOG PARENT`: it compiles one graph and ends.

A library that aborts or runs wild ends this process and no other. CHANNEL is the descriptor of the pipe that messages
go to, ANSWER of the file for what was made, LOG of the file for everything that the library says, PARENT the process
that started it; the request is in standard input. Standard output and error are a file as well: for what C++ prints
when it ends a process.
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
from rc_deploy.engine.lasting_log import LastingLog
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
    channel, answer = (os.fdopen(int(descriptor), "wb") for descriptor in sys.argv[1:3])
    _contain(parent=int(sys.argv[4]))
    if (request := receive(sys.stdin.buffer)) is None:
        return
    _answer(channel, answer, LastingLog(int(sys.argv[3])), *request)
    sys.stderr.flush()
    os._exit(0)  # the answer is out: destructors of the library can only spoil it


def _contain(parent: int) -> None:
    """End with the parent, leave Ctrl-C to it, and leave no core file behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be told
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(
    channel: BinaryIO, answer: BinaryIO, log: LastingLog, request: dict[str, object], blobs: list[bytes]
) -> None:
    def on_message(severity: str, message: str) -> None:
        with contextlib.suppress(OSError):  # a build must not end for want of memory for its log
            log.write(f"[{severity}] {message}")
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
        blobs = [made.engine, made.timing_cache]
        try:
            answer.writelines(blobs)
            answer.flush()
        except OSError as error:
            send(channel, {"unwritten": error.strerror})
            return
        send(channel, {"compiled": facts, "sizes": [len(blob) for blob in blobs]})


if __name__ == "__main__":
    main()
