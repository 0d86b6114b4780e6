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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.engine.channel import receive, send, views
from rc_deploy.engine.compiler import RefusedError, compile_graph
from rc_deploy.engine.lasting_log import LastingLog
from rc_deploy.engine.library import LIBRARIES, Loaded
from rc_deploy.engine.registry import load_plugins
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import UnsupportedError

if TYPE_CHECKING:
    from typing import BinaryIO

    from rc_deploy.engine.library import Library
    from rc_deploy.engine.settings import Compiled, Progress

_PR_SET_PDEATHSIG = 1  # prctl(2)
# Severities that are told at once; the file has the others as well.
TOLD = {"INTERNAL_ERROR", "ERROR", "WARNING"}


def main() -> None:
    """Do what the request asks."""
    channel, answer = (os.fdopen(int(descriptor), "wb") for descriptor in sys.argv[1:3])
    parent, asked = _Parent(channel, answer, LastingLog(int(sys.argv[3]))), os.fdopen(int(sys.argv[4]), "rb")
    _contain(int(sys.argv[5]))
    library = LIBRARIES[sys.argv[6]]
    if (lib := _load(library, channel)) is None or (request := receive(sys.stdin.buffer)) is None:
        return
    _answer(parent, lib, library, request, views(asked, request["sizes"]))
    sys.stderr.flush()
    os._exit(0)  # the answer is out: destructors of the library can only spoil it


def _load(library: Library, channel: BinaryIO) -> Any:
    """Import the library's package, tell what it says of itself, and return it; None where it cannot be loaded."""
    try:
        lib = importlib.import_module(library.module)
    except (ImportError, OSError) as error:
        send(channel, {"unloadable": str(error)})
        return None
    send(channel, {"loaded": asdict(Loaded.of(lib))})
    return lib


def _contain(parent: int) -> None:
    """End with the parent, leave Ctrl-C to it, and leave no core file behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be told
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@dataclass(frozen=True)
class _Parent:
    """What reaches the parent: messages, what was made, and a log that outlives this process."""

    channel: BinaryIO
    answer: BinaryIO
    log: LastingLog

    def on_message(self, severity: str, message: str) -> None:
        with contextlib.suppress(OSError):  # a build must not end for want of memory for its log
            self.log.write(f"[{severity}] {message}")
        if severity in TOLD:
            send(self.channel, {"severity": severity, "message": message})

    def on_progress(self, progress: Progress) -> None:
        send(self.channel, {"progress": asdict(progress)})

    def take(self, made: Compiled) -> None:
        facts = vars(made).copy()
        blobs = [facts.pop("engine"), facts.pop("timing_cache")]
        try:
            self.answer.writelines(blobs)
            self.answer.flush()
        except OSError as error:
            send(self.channel, {"unwritten": error.strerror})
            return
        send(self.channel, {"compiled": facts, "sizes": [len(blob) for blob in blobs]})


def _answer(parent: _Parent, lib: Any, library: Library, request: dict[str, Any], given: list[memoryview]) -> None:
    settings = Settings.from_json(request["settings"])
    try:
        if settings.plugin_library:
            load_plugins(lib, library, Path(settings.plugin_library))
        made = compile_graph(lib, settings, parent.on_message, parent.on_progress, *given)
    except RefusedError as refusal:
        send(parent.channel, {"refused": refusal.phase, "errors": [asdict(error) for error in refusal.errors]})
    except UnsupportedError as error:
        send(parent.channel, {"unsupported": str(error), "hint": error.hint})
    else:
        parent.take(made)


if __name__ == "__main__":
    main()
