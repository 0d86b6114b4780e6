"""The worker process: `python -m rc_deploy.engine.worker CHANNEL ANSWER LOG REQUEST PARENT LIBRARY`.

It compiles one graph and ends; a library that aborts or runs wild ends this process and no other. CHANNEL is the
descriptor of the pipe that messages go to, ANSWER of the file for what was made, LOG of the file for everything that
the library says, REQUEST of the file with the graph; PARENT is the process that started it, LIBRARY what it drives,
which it imports while it waits for the request in standard input. Standard output and error are a file as well: for
what C++ prints when it ends a process.
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
from typing import TYPE_CHECKING, Any

from rc_deploy.engine.channel import receive, send, views
from rc_deploy.engine.compiler import RefusedError, compile_graph
from rc_deploy.engine.lasting_log import LastingLog
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.engine.registry import load_plugins
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import UnsupportedError

if TYPE_CHECKING:
    from typing import BinaryIO

    from rc_deploy.engine.library import Library
    from rc_deploy.engine.settings import Progress

_PR_SET_PDEATHSIG = 1  # prctl(2)
# Severities that are told at once; the file has the others as well.
TOLD = {"INTERNAL_ERROR", "ERROR", "WARNING"}


def main() -> None:
    """Do what the request asks."""
    channel, answer = (os.fdopen(int(descriptor), "wb") for descriptor in sys.argv[1:3])
    log, asked = LastingLog(int(sys.argv[3])), os.fdopen(int(sys.argv[4]), "rb")
    _contain(parent=int(sys.argv[5]))
    library = LIBRARIES[sys.argv[6]]
    lib = importlib.import_module(library.module)
    if (request := receive(sys.stdin.buffer)) is None:
        return
    _answer(lib, library, channel, answer, log, request, views(asked, request["sizes"]))
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
    lib: Any,
    library: Library,
    channel: BinaryIO,
    answer: BinaryIO,
    log: LastingLog,
    request: dict[str, Any],
    given: list[memoryview],
) -> None:
    def on_message(severity: str, message: str) -> None:
        with contextlib.suppress(OSError):  # a build must not end for want of memory for its log
            log.write(f"[{severity}] {message}")
        if severity in TOLD:
            send(channel, {"severity": severity, "message": message})

    def on_progress(progress: Progress) -> None:
        send(channel, {"progress": asdict(progress)})

    settings = Settings.from_json(request["settings"])
    try:
        if settings.plugin_library:
            load_plugins(lib, library, Path(settings.plugin_library))
        made = compile_graph(lib, settings, on_message, on_progress, *given)
    except RefusedError as refusal:
        send(channel, {"refused": refusal.phase, "errors": [asdict(error) for error in refusal.errors]})
    except UnsupportedError as error:
        send(channel, {"unsupported": str(error), "hint": error.hint})
    else:
        facts = vars(made).copy()
        blobs = [facts.pop("engine"), facts.pop("timing_cache")]
        try:
            answer.writelines(blobs)
            answer.flush()
        except OSError as error:
            send(channel, {"unwritten": error.strerror})
            return
        send(channel, {"compiled": facts, "sizes": [len(blob) for blob in blobs]})


if __name__ == "__main__":
    main()
