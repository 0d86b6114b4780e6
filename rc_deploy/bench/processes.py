"""Lanes in processes of their own: they share no memory, no thread pools and no settings, and still take turns.

The processes speak in lines of JSON through pipes: what is asked is a command's name or a batch size, what is answered
are figures. An error of ours is handed on with its class, message and hint.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from rc_deploy import errors
from rc_deploy.bench.records import Artefact
from rc_deploy.bench.statistics import Turn
from rc_deploy.decode import decode
from rc_deploy.errors import UnsupportedError

if TYPE_CHECKING:
    from rc_deploy.bench.records import BenchOptions
    from rc_deploy.bench.subjects import Subject

# An idle process ends as soon as its pipe is closed; one that is amid a run is not waited for any longer.
_GRACE = 5.0


class ProcessLane:
    """A lane in a process of its own."""

    def __init__(self, subject: Subject, options: BenchOptions) -> None:
        self._subject = subject
        self._options = options

    def __enter__(self) -> Self:
        """Start the process and have it load the artefact.

        Raises:
            RcDeployError: as `subjects.load`, in that process.
            UnsupportedError: it ended.
        """
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rc_deploy.bench.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            request = {
                "path": str(self._subject.path),
                "variant": self._subject.variant,
                "threads": self._options.threads,
                "factory": self._options.factory,
                "concurrency": self._options.concurrency,
            }
            self.artefact = decode(Artefact, self._ask(request))
        except BaseException:
            self._end()
            raise
        self.load_seconds = time.perf_counter() - start
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process."""
        self._end()

    def prepare(self, batch: int) -> float:
        """Make a batch of noise and run it once; return the seconds of that run."""
        return float(self._ask({"batch": batch}))

    def turn(self) -> Turn:
        """Run the batch once without counting and then for the clock."""
        return decode(Turn, self._ask("turn"))

    def memory(self) -> tuple[int | None, int | None]:
        """Return the bytes resident more than before the load, and the most that ever were."""
        more, most = self._ask("memory")
        return more, most

    def _ask(self, request: Any) -> Any:
        assert self._process.stdin is not None  # noqa: S101 (both are pipes)
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise UnsupportedError(
                f"The process that ran {self._subject.path} ended with exit code {self._process.wait()}.",
                "If it was killed for want of memory, give smaller batches, or fewer artefacts at once.",
            )
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"], answer["hint"])
        return answer["answer"]

    def _end(self) -> None:
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
