"""Holding a benchmark against an earlier one, e.g. in CI: is anything slower than it may be?

Two runs at two times differ by what the machine did meanwhile, which the interval of neither knows. Where both files
are at hand, timing them side by side tells smaller differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rc_deploy import machine
from rc_deploy.bench.records import SCHEMA, SCHEMA_VERSION, Artefact, Bench, BenchOptions, Method, Timing
from rc_deploy.bench.statistics import difference
from rc_deploy.decode import FormError, cleaned, decode
from rc_deploy.errors import InputError
from rc_deploy.files import read_json
from rc_deploy.runners import default_threads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Facts that make a machine another one. Versions may differ: they are what is often compared.
_IDENTITY = ("cpu", "usable_cores", "gpus")


class Verdict(StrEnum):
    """What the slow-down and its interval say about the limit."""

    SLOWER = "slower"  # more than allowed, and chance alone is no explanation
    UNDECIDED = "undecided"  # the interval reaches from no slow-down to more than is allowed
    HOLDS = "holds"


@dataclass(frozen=True)
class Change:
    """One artefact at one batch size, now and then.

    Attributes:
        artefact: index into the list of artefacts, now.
        batch: images per run.
        before, now: medians, milliseconds.
        slow_down: now by before.
        interval: its confidence interval.
        verdict: on the limit; without a limit, on any slow-down.
    """

    artefact: int
    batch: int
    before: float
    now: float
    slow_down: float
    interval: tuple[float, float]
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """A benchmark held against an earlier one.

    Attributes:
        baseline: file of the earlier one.
        created: when that was.
        limit: slow-down that is allowed, e.g. 0.05.
        other_machine: what differs between the machines; empty where it is the same.
        changes: by batch size, and in that by artefact.
    """

    baseline: str
    created: str
    limit: float
    other_machine: dict[str, str]
    changes: tuple[Change, ...]

    @property
    def slower(self) -> tuple[Change, ...]:
        """What is slower than it may be."""
        return tuple(change for change in self.changes if change.verdict is Verdict.SLOWER)


@dataclass(frozen=True)
class Document:
    """An earlier benchmark as it was written."""

    machine: dict[str, Any]
    method: Method
    artefacts: tuple[Artefact, ...]
    timings: tuple[Timing, ...]

    def __post_init__(self) -> None:
        for timing in self.timings:
            low, high = timing.p50_interval
            if not (0 <= timing.artefact < len(self.artefacts) and 0 < low <= timing.p50 <= high and timing.loads > 1):
                raise ValueError("a timing is not plausible")


def read(path: Path) -> Document:
    """Read an earlier benchmark. Raises InputError where it is missing, damaged or of another version."""
    content = read_json(path, "baseline")
    if (content.get("schema"), content.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise InputError(
            f"{path} is no benchmark of version {SCHEMA_VERSION}.", "Make it again: rc-deploy bench ... --json FILE"
        )
    try:
        return decode(Document, cleaned(content))
    except FormError as error:
        raise InputError(f"The baseline {path} is damaged: {error}.", "Make it again: rc-deploy bench ...") from None


def require_comparable(old: Document, path: Path, names: Sequence[str], options: BenchOptions) -> None:
    """Require, before anything is timed, that what will be measured can be held against a baseline.

    Args:
        old: the baseline, and
        path: where it lies.
        names: of the artefacts, in order.
        options: of the benchmark to come.

    Raises:
        InputError: it is of another machine, was measured otherwise, or lacks an artefact or a batch size.
    """
    differs = _differences(old.machine)
    if differs and not options.any_machine:
        words = "; ".join(f"{key}: {value}" for key, value in differs.items())
        raise InputError(
            f"The baseline {path} is of another machine ({words}).",
            "Make a baseline on this one, or compare all the same with --any-machine.",
        )
    now = {
        "threads": options.threads or default_threads(),
        "concurrency": options.concurrency,
        "isolated": options.isolate,
    }
    for key, value in now.items():
        if (then := getattr(old.method, key)) != value:
            raise InputError(
                f"The baseline {path} was measured with {key} = {then}, not {value}.",
                "Measure in the same way, or make a new baseline.",
            )
    then_named = _names(old.artefacts)
    known = {(_key(then_named, timing.artefact), timing.batch) for timing in old.timings}
    for index in range(len(names)):
        for batch in options.batches:
            if (_key(names, index), batch) not in known:
                raise InputError(
                    f"The baseline {path} has no {names[index]} at batch {batch}.",
                    "Name the same artefacts and batch sizes, or make a new baseline.",
                )


def compare(outcome: Bench, old: Document, path: Path, limit: float) -> Comparison:
    """Hold an outcome against a baseline that it can be held against.

    Args:
        outcome: of now.
        old: the baseline, and
        path: where it lies.
        limit: slow-down of a median that is allowed, e.g. 0.05.
    """
    then = {(_key(_names(old.artefacts), timing.artefact), timing.batch): timing for timing in old.timings}
    names = _names(outcome.artefacts)
    return Comparison(
        baseline=str(path),
        created=str(old.machine.get("created", "")),
        limit=limit,
        other_machine=_differences(old.machine),
        changes=tuple(_change(then[_key(names, now.artefact), now.batch], now, limit) for now in outcome.timings),
    )


def _change(old: Timing, now: Timing, limit: float) -> Change:
    slow_down, bounds = difference((old.p50, old.p50_interval, old.loads), (now.p50, now.p50_interval, now.loads))
    return Change(
        artefact=now.artefact,
        batch=now.batch,
        before=old.p50,
        now=now.p50,
        slow_down=slow_down,
        interval=bounds,
        verdict=judged(slow_down, bounds, limit),
    )


def judged(slow_down: float, bounds: tuple[float, float], limit: float) -> Verdict:
    """Return the verdict on a slow-down with its interval."""
    low, high = bounds
    if slow_down > 1 + limit and low > 1:
        return Verdict.SLOWER
    return Verdict.UNDECIDED if low <= 1 and high > 1 + limit else Verdict.HOLDS


def _differences(old: dict[str, Any]) -> dict[str, str]:
    now = machine.facts()
    return {key: f"{old.get(key)}, here {now[key]}" for key in _IDENTITY if old.get(key) != now[key]}


def _names(artefacts: Sequence[Artefact]) -> list[str]:
    return [artefact.name for artefact in artefacts]


def _key(names: Sequence[str], index: int) -> tuple[str, int]:
    """Return what tells an artefact from the others: its name, and which of those of that name it is."""
    return names[index], names[:index].count(names[index])
