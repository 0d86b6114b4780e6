"""Gives files to rc-deploy's commands in a process of its own, so that a crash or a hang of one is seen as such.

Reads a JSON line per call from standard input, {"command": ..., "path": ...}, and answers with one on standard output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

from rc_deploy import check, gpu
from rc_deploy.engine import BuildOptions, build
from rc_deploy.errors import RcDeployError
from rc_deploy.inspection import inspect
from rc_deploy.specs import Precision
from rc_deploy.validate import ValidateOptions, validate

# What a file may make a command allocate; the libraries alone map about 3 GiB.
MEMORY = 8 * 2**30
FITTING = gpu.Driver("13.0", (gpu.Gpu("RTX 4090", "8.9"),))


def _check(path: Path, reference: Path) -> dict[str, Any]:
    """On a machine that fits; elsewhere `validate` runs an engine's typed ONNX."""
    fitting = mock.patch("rc_deploy.gpu.driver", return_value=FITTING)
    with fitting, mock.patch("rc_deploy.check.is_installed", return_value=True):
        outcome = check.check(path)
    return {"right": outcome.runnable, "reasons": [item.detail for item in outcome.checks if not item.works]}


def _inspect(path: Path, reference: Path) -> dict[str, Any]:
    return {"verdict": inspect(path).verdict}


def _validate(path: Path, reference: Path) -> dict[str, Any]:
    outcome = validate(path, reference, ValidateOptions("random:0", limit=2, threads=1))
    return {"right": outcome.passed, "tolerance": outcome.tolerance.maximum}


def _build(path: Path, reference: Path) -> dict[str, Any]:
    options = BuildOptions(precision=Precision.FP16, backend="tensorrt-rtx")
    return {"built": str(build(path, path.with_name("built.engine"), options).engine)}


COMMANDS = {
    "check": _check,
    "inspect": _inspect,
    "validate": _validate,
    "build": _build,
}


def answer(command: str, path: Path, reference: Path) -> dict[str, Any]:
    """Return what a command makes of a file: its outcome, its refusal, or a bug."""
    try:
        return COMMANDS[command](path, reference)
    except RcDeployError as error:
        return {"refused": str(error), "hint": error.hint, "code": error.exit_code}
    except BaseException:  # noqa: BLE001 (whatever it is, it is a bug, and the worker goes on)
        return {"bug": traceback.format_exc()}


def main() -> None:
    """Answer until standard input ends. What libraries print goes to standard error."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        call = json.loads(line)
        found = answer(call["command"], Path(call["path"]), Path(call["reference"]))
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
