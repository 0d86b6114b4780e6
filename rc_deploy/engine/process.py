"""The worker process as its parent sees it: started ahead of its work, and gone when the parent is done with it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.engine.addresses import fixed_addresses
from rc_deploy.engine.channel import receive, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from rc_deploy.engine.library import Library

_WORKER = "rc_deploy.engine.worker"
# How variables begin that loaders, Python and the libraries read; HOME is where CUDA keeps what it compiles.
_KEPT = ("CUDA", "GLIBC_", "HOME", "LANG", "LC_", "LD_", "NV", "OMP_", "PYTHON", "TENSORRT", "TMPDIR", "TRT", "XDG_")


@dataclass(frozen=True)
class Files:
    """What the processes share: files in memory, through which large things go faster than through a pipe.

    Attributes:
        request: graph and timing cache, from the parent.
        answer: engine and timing cache, from the worker.
        log: what the library says, see `lasting_log`.
        output: the worker's standard output and error: what C++ prints, and Python where it ends.
    """

    request: BinaryIO
    answer: BinaryIO
    log: BinaryIO
    output: BinaryIO


@dataclass(frozen=True)
class WorkerProcess:
    """A process that compiles one graph.

    Attributes:
        files: that it shares with us.
        channel: its messages, the first of which is `first_message`.
    """

    files: Files
    channel: BinaryIO
    _asking: BinaryIO
    _process: subprocess.Popen[bytes]

    @cached_property
    def first_message(self) -> dict[str, Any] | None:
        """How loading the library went; None where the process ended before that. Waits for it."""
        return receive(self.channel)

    def begin(self, request: dict[str, Any]) -> None:
        """Tell the worker what to do with what is in `files.request`."""
        with suppress(BrokenPipeError):  # where it ended already, its last words say why
            send(self._asking, request)

    def wait(self) -> int:
        """Return the exit status, once it has ended."""
        return self._process.wait()


@contextmanager
def started(library: Library) -> Iterator[WorkerProcess]:
    """Start a worker, which imports its library while the caller makes a graph; whatever happens, it is gone after.

    Args:
        library: that it shall drive.
    """
    with ExitStack() as stack:
        files = Files(*(stack.enter_context(_in_memory(name)) for name in ("request", "answer", "log", "output")))
        (asked, asking), (channel, telling) = _pipe(stack), _pipe(stack)
        passed = [telling, files.answer, files.log, files.request]
        # -P: the working folder is none of its sources of modules, unless it is one of ours.
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", _WORKER, *(str(file.fileno()) for file in passed)]
        with fixed_addresses():
            process = subprocess.Popen(  # noqa: S603 (ourselves)
                [*command, str(os.getpid()), library.name],
                stdin=asked,
                stdout=files.output,
                stderr=files.output,
                pass_fds=[file.fileno() for file in passed],
                env=_environment(),
            )
        stack.callback(process.wait)
        stack.callback(process.kill)
        asked.close()
        telling.close()  # so that its end is the end of the channel
        yield WorkerProcess(files, channel, asking, process)


def _pipe(stack: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    """Return both ends of a pipe, which the stack closes: to read from, to write to."""
    reading, writing = os.pipe()
    return stack.enter_context(os.fdopen(reading, "rb")), stack.enter_context(os.fdopen(writing, "wb", buffering=0))


def _in_memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(f"rc-deploy-{name}"), "w+b")


def _environment() -> dict[str, str]:
    """Return what a worker needs of ours, with the places that modules come from, and hashes of text that are fixed.

    What it does not need (the working folder, say, or the search path of commands) would only move its memory about.
    """
    places = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    return {**kept, "PYTHONPATH": places, "PYTHONHASHSEED": "0"}
