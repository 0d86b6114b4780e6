"""Baselines: what is slower than it may be fails, what cannot be compared is refused before anything is timed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rc_deploy.bench import BenchOptions, bench
from rc_deploy.bench.baseline import Verdict, compare, judged, read, require_comparable
from rc_deploy.errors import InputError, SlowerError

RunHere = Callable[..., tuple[object, str]]
OPTIONS = BenchOptions(batches=(1,), seconds=0.0, threads=1, loads=4)
ARGUMENTS = ("--batch", "1", "--seconds", "0", "--threads", "1", "--loads", "4")


@pytest.fixture(scope="module")
def document(small_onnx: Path) -> dict[str, Any]:
    """A benchmark of the small network, as JSON writes it."""
    found: dict[str, Any] = json.loads(json.dumps(bench([str(small_onnx)], OPTIONS).to_json()))
    return found


def written(document: dict[str, Any], path: Path, factor: float = 1.0) -> Path:
    """Write a baseline whose times are `factor` times those of `document`."""
    changed = json.loads(json.dumps(document))
    for timing in changed["timings"]:
        timing["p50"] *= factor
        timing["p50_interval"] = [0.99 * timing["p50"], 1.01 * timing["p50"]]
    path.write_text(json.dumps(changed), encoding="utf-8")
    return path


def test_a_slow_down_fails(document: dict[str, Any], small_onnx: Path, tmp_path: Path, here: RunHere) -> None:
    """Against a baseline a thousand times as fast even a noisy machine is slower."""
    old = written(document, tmp_path / "old.json", factor=1e-3)
    arguments = ("bench", small_onnx, *ARGUMENTS, "--baseline", old, "--json", tmp_path / "new.json")
    code, stderr = here(*arguments, "--fail-if-slower", "5%")
    assert code == SlowerError.exit_code, stderr
    assert "More than 5% slower" in stderr
    assert "small.onnx at batch 1 takes" in stderr
    changes = json.loads((tmp_path / "new.json").read_text())["comparison"]["changes"]
    assert [change["verdict"] for change in changes] == ["slower"]
    assert changes[0]["slow_down"] > 10


def test_what_got_faster_passes(document: dict[str, Any], small_onnx: Path, tmp_path: Path, here: RunHere) -> None:
    old = written(document, tmp_path / "old.json", factor=1e3)
    code, stderr = here("bench", small_onnx, *ARGUMENTS, "--baseline", old, "--fail-if-slower", "5")
    assert code == 0, stderr


@pytest.mark.parametrize(
    ("slow_down", "bounds", "verdict"),
    [
        (1.08, (1.03, 1.13), Verdict.SLOWER),
        (1.08, (0.97, 1.20), Verdict.UNDECIDED),
        (1.03, (1.01, 1.07), Verdict.HOLDS),  # slower, by less than is allowed
        (1.00, (0.98, 1.02), Verdict.HOLDS),
        (1.00, (0.80, 1.25), Verdict.UNDECIDED),
        (0.50, (0.45, 0.55), Verdict.HOLDS),
    ],
)
def test_verdicts(slow_down: float, bounds: tuple[float, float], verdict: Verdict) -> None:
    assert judged(slow_down, bounds, 0.05) is verdict


def test_the_same_times_are_no_slow_down(document: dict[str, Any], small_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    outcome = bench([str(small_onnx)], OPTIONS)
    path.write_text(json.dumps(outcome.to_json()), encoding="utf-8")
    (change,) = compare(outcome, read(path), path, 0.05).changes
    assert change.slow_down == pytest.approx(1)
    assert change.interval[0] < 1 < change.interval[1]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (("machine", "cpu"), "another", "of another machine"),
        (("machine", "usable_cores"), 999, "of another machine"),
        (("method", "threads"), 77, "threads = 77, not 1"),
        (("method", "isolated"), True, "isolated = True, not False"),
        (("artefacts", 0, "variant"), "bodies", "has no small.onnx at batch 1"),
        (("timings", 0, "batch"), 8, "has no small.onnx at batch 1"),
        (("timings", 0, "artefact"), 3, "a timing is not plausible"),
        (("timings", 0, "p50_interval"), [0.0, 1.0], "a timing is not plausible"),
        (("timings", 0, "p50"), "fast", "'timings"),
        (("schema_version",), 1, "no benchmark of version 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    key: tuple[Any, ...], value: object, message: str, document: dict[str, Any], tmp_path: Path
) -> None:
    path = written(document, tmp_path / "old.json")
    changed = json.loads(path.read_text())
    place = changed
    for part in key[:-1]:
        place = place[part]
    place[key[-1]] = value
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError, match=message):
        require_comparable(read(path), path, ["small.onnx"], OPTIONS)


def test_another_machine_will_do_where_told(document: dict[str, Any], tmp_path: Path) -> None:
    other = json.loads(json.dumps(document))
    other["machine"]["cpu"] = "another"
    path = written(other, tmp_path / "old.json")
    from dataclasses import replace

    require_comparable(read(path), path, ["small.onnx"], replace(OPTIONS, any_machine=True))


def test_the_baseline_is_never_overwritten(
    document: dict[str, Any], small_onnx: Path, tmp_path: Path, here: RunHere
) -> None:
    old = written(document, tmp_path / "old.json")
    before = shutil.copy(old, tmp_path / "copy.json")
    code, stderr = here("bench", small_onnx, *ARGUMENTS, "--baseline", old, "--json", old)
    assert code == 4, stderr
    assert old.read_bytes() == Path(before).read_bytes()


@pytest.mark.parametrize("percent", ["nan", "-5%", "five", "1e9"])
def test_percentages_without_sense_are_wrong_use(percent: str, here: RunHere) -> None:
    code, stderr = here("bench", "m.onnx", "--baseline", "old.json", "--fail-if-slower", percent)
    assert code == 2, stderr


def test_a_limit_wants_a_baseline(here: RunHere) -> None:
    code, stderr = here("bench", "m.onnx", "--fail-if-slower", "5%")
    assert code == InputError.exit_code
    assert "--baseline" in stderr
