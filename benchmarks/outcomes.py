"""What the records in benchmarks/results say of a claim. A rehearsal says nothing, and is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import TYPE_CHECKING, Any

import evidence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from claims import Claim, Training

GPU_CHECK, GPU_TRAIN = "gpu_check.json", "gpu_train.json"
NOT_RUN = "not yet run"


class RecordError(ValueError):
    """A file of benchmarks/results is no record of a GPU; says why and what to do."""


@dataclass(frozen=True)
class Outcome:
    """What came of a claim.

    Attributes:
        words: the outcome.
        figures: the measured numbers in words; empty where tests are all that there is.
        date: on which the record was made.
        machine: its GPUs.
        driver: of the GPUs.
        file: name of the record.
    """

    words: str
    figures: str
    date: str
    machine: str
    driver: str
    file: str


@dataclass(frozen=True)
class Records:
    """The records there are; None for one that is not there."""

    gpu_check: Mapping[str, Any] | None
    gpu_train: Mapping[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> Records:
        """Return the records of a folder.

        Raises:
            RecordError: one cannot be read, is a rehearsal, or was not made on a GPU.
        """
        return cls(*(_read(folder / name) for name in (GPU_CHECK, GPU_TRAIN)))

    def outcome(self, claim: Claim) -> Outcome | None:
        """Return what came of a claim; None where what would prove it has not run."""
        if claim.training:
            return _trained(claim, claim.training, self.gpu_train)
        found = [(self.gpu_check or {"parts": {}})["parts"].get(name) for name in claim.parts]
        parts = [part for part in found if part and part["status"] not in (evidence.ABSENT, evidence.UNREACHED)]
        if not parts or len(parts) < len(claim.parts):
            return None
        numbers = [number for part in parts for path in claim.figures for number in figures(part.get("measured"), path)]
        if claim.figures and numbers:
            return _measured(claim, numbers, parts[0]["machine"], GPU_CHECK)
        words = _failures(claim, parts) or _successes(claim, parts)
        return _outcome(words, "", parts[0]["machine"], GPU_CHECK) if words else None


def figures(measured: Any, path: Sequence[str]) -> Iterator[float]:
    """Return the numbers that stand at a path of keys, in which * stands for anything; a list's is its median."""
    if path and isinstance(measured, dict):
        for key, inner in measured.items():
            if fnmatchcase(key, path[0]):
                yield from figures(inner, path[1:])
    elif not path and isinstance(measured, list):
        yield median(measured)
    elif not path and isinstance(measured, int | float):
        yield float(measured)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _require_gpu(path, [record, *record["parts"].values()] if path.name == GPU_CHECK else [record])
    except RecordError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path.name} is no record of ours ({error!r}): remove it, and measure again.") from None
    return dict(record)


def _require_gpu(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what was rehearsed, or has no GPU or no driver: none of it was measured or proven on one."""
    for record in records:
        measured = record.get("measured")
        rehearsed = record["rehearsal"] or (isinstance(measured, dict) and measured.get("rehearsal"))
        if rehearsed or record.get("status") == evidence.REHEARSED:
            raise RecordError(f"{path.name} is a rehearsal, which says nothing of a GPU: remove it from {path.parent}.")
        machine = record.get("machine")
        if machine is not None and not (machine["gpus"] and machine["gpu_driver"]):
            raise RecordError(f"{path.name} names no GPU or no driver: it was not made on one, remove it.")


def _failures(claim: Claim, parts: Sequence[Mapping[str, Any]]) -> str:
    """Return what failed of a claim; nothing where only others' tests did."""
    failed = [name for part in parts for name in part.get("tests", {}).get("failed", ()) if _proves(claim, name)]
    if failed:
        return f"failed: {', '.join(failed[:3])}{' ...' * (len(failed) > 3)}"
    # Without a list of tests nobody knows which of them it was.
    bad = [part for part in parts if part["status"] in (evidence.FAILED, evidence.STOPPED) and "tests" not in part]
    return f"{bad[0]['status']}: {bad[0]['words']}" if bad else ""


def _successes(claim: Claim, parts: Sequence[Mapping[str, Any]]) -> str:
    if claim.figures:  # were not found, though nothing failed
        return ""
    passed = [name for part in parts for name in part.get("tests", {}).get("names", ()) if _proves(claim, name)]
    if passed:
        return f"{len(passed)} tests passed"
    return "passed" if not claim.tests and all("tests" not in part for part in parts) else ""


def _proves(claim: Claim, name: str) -> bool:
    return re.match(claim.tests, name) is not None


def _measured(claim: Claim, numbers: Sequence[float], machine: Mapping[str, Any], file: str) -> Outcome:
    low, high = min(numbers) * claim.scale, max(numbers) * claim.scale
    words = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    reached = (claim.at_least is None or low >= claim.at_least) and (claim.at_most is None or high <= claim.at_most)
    claimed = claim.at_least is not None or claim.at_most is not None
    verdict = ("reached: " if reached else "missed: ") if claimed else ""
    return _outcome(f"{verdict}{words} {claim.unit}", f"{words} {claim.unit}", machine, file)


def _trained(claim: Claim, wanted: Training, record: Mapping[str, Any] | None) -> Outcome | None:
    for row in record["results"]["finished"] if record else ():
        if row["recipe"] == wanted.recipe and not row["changes"] and len(row["seeds"]) >= wanted.seeds:
            number = row["seconds"] if wanted.value == "seconds" else row["last"]["mean"]
            return _measured(claim, [number], record["machine"] if record else {}, GPU_TRAIN)
    return None


def _outcome(words: str, numbers: str, machine: Mapping[str, Any], file: str) -> Outcome:
    gpus = [gpu["name"] for gpu in machine["gpus"]]
    titles = [f"{gpus.count(name)} x {name}" if gpus.count(name) > 1 else name for name in dict.fromkeys(gpus)]
    drivers = ", ".join(dict.fromkeys(str(machine["gpu_driver"]).split()))  # nvidia-smi names it for every GPU
    return Outcome(words, numbers, machine["created"][:10], ", ".join(titles), drivers, file)
