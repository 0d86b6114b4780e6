"""Runs parts of a check as processes of their own, each within its time, and records what came of them.

A part is proven when its process ends with 0 and, where it runs tests, at least one of them passed. What a machine
lacks is said in words and is no failure. Nothing here knows what the parts are: see gpu_check.py.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA, SCHEMA_VERSION = "rc-deploy/gpu-check", 2
PASSED, FAILED, STOPPED, ABSENT, UNREACHED = "passed", "failed", "stopped", "absent", "not reached"
REHEARSED = "rehearsed"  # what passes in a rehearsal
REHEARSAL = "REHEARSAL: everything was only tried out. Nothing in here was measured or proven on a GPU."
# What differs from run to run on one machine, and what a result does not depend on.
VOLATILE = ("created", "load_average")
TAIL = 4000

# Returns what is missing, and what would bring it; an empty text where nothing is.
Need = Callable[[], str]


@dataclass(frozen=True)
class Part:
    """One thing to prove or to measure.

    Attributes:
        name: in the record.
        about: what it proves or measures, in a phrase.
        command: to run; "{folder}" in it stands for a folder of the part's own, where `tests.xml` (JUnit's format)
            and `measured.json` are looked for.
        limit: seconds after which it is stopped, with every process that it started.
        needs: without which it is not run.
    """

    name: str
    about: str
    command: tuple[str, ...]
    limit: float
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Circumstances:
    """What every part is run under, and what makes its result still hold: the same sources on the same machine.

    Attributes:
        machine: facts, versions among them.
        sources: SHA-256 of everything that results depend on.
        commit: of the sources, where known.
        rehearsal: whether the results are to be taken for none.
        environment: of the processes.
        root: folder that they run in; its path stays out of the record.
    """

    machine: Mapping[str, Any]
    sources: str
    commit: str | None
    rehearsal: bool
    environment: Mapping[str, str]
    root: Path

    def still_hold(self, record: Mapping[str, Any]) -> bool:
        """Whether a part passed under these circumstances and need not run again."""
        then, now = (
            {key: value for key, value in facts.items() if key not in VOLATILE}
            for facts in (record["machine"], self.machine)
        )
        same = (record["sources"], record["rehearsal"], then) == (self.sources, self.rehearsal, now)
        return same and record["status"] in (PASSED, REHEARSED)


def check(
    parts: tuple[Part, ...], circumstances: Circumstances, results: Path, budget: float, again: bool = False
) -> dict[str, Any]:
    """Run the parts one after the other and return the record, which is written after every one.

    Args:
        parts: in this order. The first brings what the others use (a build): it runs whenever one of them does.
        circumstances: of this run.
        results: folder of `gpu_check.json` and of the summary `gpu_check.md`.
        budget: seconds for all of them; what it does not reach is left to the next run.
        again: run also what passed before under the same circumstances.
    """
    kept = {} if again else {name: old for name, old in _earlier(results).items() if circumstances.still_hold(old)}
    if any(part.name not in kept for part in parts[1:]):
        kept.pop(parts[0].name, None)
    end = time.monotonic() + budget
    done: dict[str, Any] = {}
    for part in parts:
        if part.name in kept:
            done[part.name] = kept[part.name]
        else:
            done[part.name] = _record(part, circumstances, end - time.monotonic())
        print(_line(part.name, done[part.name], part.name in kept), flush=True)
        record = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "rehearsal": circumstances.rehearsal,
            "parts": done | {name: old for name, old in kept.items() if name not in done},
        }
        _write(record, results)
    return record


def succeeded(record: Mapping[str, Any]) -> bool:
    """Whether something was proven, nothing failed and nothing is left to do."""
    found = {part["status"] for part in record["parts"].values()}
    return bool(found & {PASSED, REHEARSED}) and not found & {FAILED, STOPPED, UNREACHED}


def summary(record: Mapping[str, Any]) -> str:
    """Return the record in words, as Markdown."""
    parts = record["parts"]
    lines = ["# What `make gpu-check` found", ""]
    if record["rehearsal"]:
        lines += [f"**{REHEARSAL}**", ""]
    count = {
        status: sum(part["status"] == status for part in parts.values())
        for status in (PASSED, REHEARSED, FAILED, STOPPED, ABSENT, UNREACHED)
    }
    lines += [", ".join(f"{number} {status}" for status, number in count.items() if number) + ".", ""]
    lines += ["| part | outcome | what | on | when | commit |", "|---|---|---|---|---|---|"]
    for name, part in parts.items():
        gpus = ", ".join(gpu["name"] for gpu in part["machine"].get("gpus", ())) or "no GPU"
        words = f"{part['about']}: {part['words']}".replace("|", "\\|")
        commit = (part["commit"] or "unknown")[:18]
        lines.append(f"| {name} | {part['status']} | {words} | {gpus} | {part['machine']['created']} | {commit} |")
    return "\n".join([*lines, ""])


def _earlier(results: Path) -> dict[str, Any]:
    """Return the parts of the last run's record; none where there is no record that can be read."""
    try:
        record = json.loads((results / "gpu_check.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        print(f"The earlier record cannot be read, everything is run: {error}", flush=True)
        return {}
    known = isinstance(record, dict) and (record.get("schema"), record.get("schema_version"))
    return dict(record["parts"]) if known == (SCHEMA, SCHEMA_VERSION) else {}


def _write(record: Mapping[str, Any], results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    for name, text in (("gpu_check.json", json.dumps(record, indent=2) + "\n"), ("gpu_check.md", summary(record))):
        new = results / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(results / name)


def _record(part: Part, circumstances: Circumstances, left: float) -> dict[str, Any]:
    missing = [words for need in part.needs if (words := need())]
    found: dict[str, Any]
    if missing:
        found = {"status": ABSENT, "words": "; ".join(missing)}
    elif left < 1:
        found = {"status": UNREACHED, "words": "the time for the whole check was spent: run it again for the rest"}
    else:
        found = _run(part, circumstances, min(part.limit, left))
        if circumstances.rehearsal and found["status"] == PASSED:
            found["status"] = REHEARSED
    return {
        "about": part.about,
        "rehearsal": circumstances.rehearsal,
        **found,
        "command": shlex.join("python" if word == sys.executable else word for word in part.command),
        "limit_s": part.limit,
        "commit": circumstances.commit,
        "sources": circumstances.sources,
        "machine": dict(circumstances.machine),
    }


def _run(part: Part, circumstances: Circumstances, limit: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [word.replace("{folder}", temporary) for word in part.command]
        start = time.monotonic()
        code = _exit_code(command, circumstances, limit, folder / "output")
        seconds = round(time.monotonic() - start, 1)
        output = (folder / "output").read_text(encoding="utf-8", errors="replace")
        output = output.replace(str(circumstances.root), ".").replace(temporary, "{folder}")
        found: dict[str, Any] = {"seconds": seconds, "exit_code": code, "output_end": output[-TAIL:]}
        if code is not None and (folder / "tests.xml").is_file():
            found["tests"] = _tests(folder / "tests.xml")
        if (folder / "measured.json").is_file():
            found["measured"] = _measured(folder / "measured.json")
        return _judged(found, limit)


def _exit_code(command: list[str], circumstances: Circumstances, limit: float, output: Path) -> int | None:
    """Run a command; return its exit code, or None where it did not end in time and was stopped."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=circumstances.root,
            env=dict(circumstances.environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Whatever it started and left behind goes too: it would disturb the parts that follow.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _measured(file: Path) -> Any:
    """Return the figures, which are what was there when a process was stopped, or why they are none."""
    text = file.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        return f"cannot be read ({error}): {text[-TAIL:]}"


def _tests(report: Path) -> dict[str, Any]:
    """Return how many tests passed and which, which failed, and why others were skipped."""
    passed, failed, skipped = [], [], []
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 (pytest wrote it)
        skip = case.find("skipped")
        if skip is not None:
            skipped.append(skip.get("message", ""))
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", ""))
        else:
            passed.append(case.get("name", ""))
    reasons = {why: skipped.count(why) for why in sorted(set(skipped))}
    return {"passed": len(passed), "names": passed, "failed": failed, "skipped": reasons}


def _judged(found: dict[str, Any], limit: float) -> dict[str, Any]:
    """Add the verdict and its words to what a process left."""
    tests = found.get("tests")
    skipped = "; ".join(f"{number} skipped: {why}" for why, number in tests["skipped"].items()) if tests else ""
    if found["exit_code"] is None:
        verdict = STOPPED, f"did not end within {limit:.3g} s and was stopped"
    elif found["exit_code"] != 0:
        names = f"{len(tests['failed'])} tests failed: {', '.join(tests['failed'][:5])}" if tests else ""
        last = (found["output_end"].strip().splitlines() or ["no output"])[-1]
        verdict = FAILED, names or f"exit code {found['exit_code']}: {last}"
    elif tests and not tests["passed"]:
        verdict = ABSENT, skipped or "there was no test to run"
    elif tests:
        verdict = PASSED, f"{tests['passed']} tests passed" + (f"; {skipped}" if skipped else "")
    else:
        verdict = PASSED, f"done in {found['seconds']} s"
    return {"status": verdict[0], "words": verdict[1], **found}


def _line(name: str, part: Mapping[str, Any], kept: bool) -> str:
    return f"{name:22} {part['status']:12} {part['words']}" + (" (before, on the same sources)" if kept else "")
