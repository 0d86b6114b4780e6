"""The process of a lane of its own (`processes`): python -m rc_deploy.bench.child answers line by line."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy.bench import memory
from rc_deploy.bench.lanes import LocalLane
from rc_deploy.bench.records import BenchOptions
from rc_deploy.bench.subjects import Subject
from rc_deploy.errors import RcDeployError

if TYPE_CHECKING:
    from typing import TextIO


def main() -> None:
    """Load what the first line names, then answer one line for each that is asked, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes the pipe
    answers = _private_output()
    request = json.loads(sys.stdin.readline())
    subject = Subject(Path(request["path"]), request["variant"])
    options = BenchOptions(
        threads=request["threads"], factory=request["factory"], concurrency=request["concurrency"], isolate=True
    )
    try:
        with LocalLane(subject, options) as lane:
            _answer(answers, asdict(lane.artefact))
            for line in sys.stdin:
                _answer(answers, _do(lane, json.loads(line)))
    except RcDeployError as error:
        _write(answers, {"error": type(error).__name__, "message": str(error), "hint": error.hint})


def _do(lane: LocalLane, request: Any) -> Any:
    if request == "turn":
        return asdict(lane.turn())
    if request == "memory":
        return lane.memory()[0], memory.peak()
    return lane.prepare(request["batch"])


def _private_output() -> TextIO:
    """Return the pipe to the parent; what libraries print goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, value: Any) -> None:
    _write(answers, {"answer": value})


def _write(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
