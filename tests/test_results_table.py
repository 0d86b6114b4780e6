"""The tables of README.md and docs/gpu-status.md say what the records do, and no rehearsal gets into them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import marked
from claims import Claim, Training
from outcomes import NOT_RUN, RecordError, Records, figures
from results_table import COMMAND, PART, README, RESULTS, STATUS, main, status_row

ROOT = Path(__file__).parents[1]
MACHINE = {"created": "2026-01-02T03:04:05", "gpus": [{"name": "Some GPU"}], "gpu_driver": "580.1"}
ROW = ["2026-01-02", "Some GPU", "580.1", "`benchmarks/results/gpu_check.json`"]
TESTED = Claim("a", "make gpu-check", parts=("kernels",), tests=r"test_gclu\[")
MEASURED = Claim("b", "make gpu-check", parts=("tails",), figures=(("tails", "*", "speedup"),), at_least=3, unit="x")


def part(status: str = "passed", **more: Any) -> dict[str, Any]:
    return {"status": status, "words": f"it {status}", "rehearsal": False, "machine": MACHINE, **more}


def ran(names: list[str], failed: list[str] | None = None) -> dict[str, Any]:
    return {"passed": len(names), "names": names, "failed": failed or [], "skipped": {}}


def checked(**parts: dict[str, Any]) -> dict[str, Any]:
    return {"schema": "rc-deploy/gpu-check", "schema_version": 2, "rehearsal": False, "parts": parts}


def trained(*finished: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"rehearsal": False, "machine": MACHINE, "pieces": [], "results": {"finished": list(finished)}, **more}


def cells(claim: Claim, record: dict[str, Any] | None, training: dict[str, Any] | None = None) -> list[str]:
    return status_row(claim, Records(record, training).outcome(claim))[2:]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The pages in a folder of their own, with a place for records."""
    for page in (README, STATUS):
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    (tmp_path / RESULTS).mkdir(parents=True)
    return tmp_path


def test_pages_say_what_the_records_do() -> None:
    """The one that fails where a record or a claim was changed and the tables were not written again."""
    assert main(["--check"]) == 0, f"run `{COMMAND}` and commit what it writes"


def test_every_row_has_run_or_has_not() -> None:
    page = (ROOT / STATUS).read_text(encoding="utf-8")
    rows = marked.cells(marked.inside(page, PART, STATUS.name))
    assert len(rows) > 50
    for claim, command, *ran in rows:
        assert claim
        assert command
        assert len(ran) == 5
        if ran != [NOT_RUN] * 5:
            _, date, machine, driver, file = ran
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", date), claim
            assert machine, claim
            assert driver, claim
            assert json.loads((ROOT / file.strip("`")).read_text(encoding="utf-8"))["rehearsal"] is False


def test_drift_is_found_and_mended(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--root", str(sources)]
    assert main([*where, "--check"]) == 0
    record = checked(tails=part(measured={"tails": {"float16, batch 1": {"in_cuda_graphs": {
        "speedup_of_fused_over": {"eager": 4.5, "compiled": 1.25, "autotuned": 1.5}}}}}))  # fmt: skip
    (sources / RESULTS / "gpu_check.json").write_text(json.dumps(record))
    assert main([*where, "--check"]) == 1
    assert f"README.md does not say what it was made from: run `{COMMAND}`" in capsys.readouterr().err
    assert main(where) == 0
    assert main([*where, "--check"]) == 0
    status, readme = ((sources / page).read_text() for page in (STATUS, README))
    assert f"| reached: 4.5 times as fast | {' | '.join(ROW)} |" in status
    assert "| reached: 1.25 to 1.5 times as fast |" in status
    assert "wanted 3 | 4.5 times as fast | Some GPU | 2026-01-02 |" in readme
    (sources / README).write_text(readme.replace("| 4.5 times", "| 5.5 times"))
    assert main([*where, "--check"]) == 1
    # What stands around the tables stays.
    assert readme.partition("<!-- results")[0] == (ROOT / README).read_text().partition("<!-- results")[0]
    assert readme.partition("<!-- end of results")[2] == (ROOT / README).read_text().partition("<!-- end of results")[2]


@pytest.mark.parametrize(
    ("name", "record", "problem"),
    [
        ("gpu_check.json", checked(tails=part()) | {"rehearsal": True}, "is a rehearsal"),
        ("gpu_check.json", checked(tails=part() | {"rehearsal": True}), "is a rehearsal"),
        ("gpu_check.json", checked(tails=part("rehearsed")), "is a rehearsal"),
        ("gpu_check.json", checked(tails=part(measured={"rehearsal": True})), "is a rehearsal"),
        ("gpu_check.json", checked(tails=part(machine=MACHINE | {"gpus": []})), "names no GPU"),
        ("gpu_check.json", checked(tails=part(machine=MACHINE | {"gpu_driver": None})), "names no GPU"),
        ("gpu_check.json", {"parts": {}}, "is no record of ours"),
        ("gpu_check.json", [], "is no record of ours"),
        ("gpu_train.json", trained(rehearsal=True), "is a rehearsal"),
        ("gpu_train.json", trained(machine=MACHINE | {"gpus": []}), "names no GPU"),
    ],
)
def test_what_was_not_measured_on_a_gpu_is_refused(
    name: str, record: Any, problem: str, sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sources / RESULTS / name).write_text(json.dumps(record))
    before = [(sources / page).read_text() for page in (README, STATUS)]
    assert main(["--root", str(sources)]) == 1
    assert f"{name} {problem}" in capsys.readouterr().err
    assert [(sources / page).read_text() for page in (README, STATUS)] == before
    with pytest.raises(RecordError):
        Records.read(sources / RESULTS)


def test_page_without_a_place_is_told(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sources / README).write_text("# Nothing\n")
    assert main(["--root", str(sources)]) == 1
    assert "README.md has 0 parts named 'results'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "record",
    [
        None,
        checked(),
        checked(kernels=part("absent")),
        checked(kernels=part("not reached")),
        checked(kernels=part(tests=ran(["test_other[x]"]))),  # those of the claim were skipped
        checked(kernels=part("failed", tests=ran([], ["test_other[x]"]))),
    ],
    ids=["nothing", "other parts", "absent", "not reached", "skipped", "others failed"],
)
def test_what_has_not_run_says_so(record: dict[str, Any] | None) -> None:
    assert cells(TESTED, record) == [NOT_RUN] * 5


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (part(tests=ran(["test_gclu[a]", "test_gclu[b]", "test_other"])), "2 tests passed"),
        (part("failed", tests=ran(["test_gclu[a]"], ["test_other"])), "1 tests passed"),
        (part("failed", tests=ran(["test_gclu[a]"], ["test_gclu[b]"])), "failed: test_gclu[b]"),
        (part("stopped"), "stopped: it stopped"),
        (part("failed"), "failed: it failed"),
    ],
    ids=["passed", "another failed", "one failed", "stopped", "crashed"],
)
def test_what_came_of_tests(found: dict[str, Any], words: str) -> None:
    assert cells(TESTED, checked(kernels=found)) == [words, *ROW]


def test_what_was_measured() -> None:
    def said(measured: Any, status: str = "passed") -> str:
        return cells(MEASURED, checked(tails=part(status, measured=measured)))[0]

    assert said({"tails": {"a": {"speedup": 3.0}, "b": {"speedup": 4.25}}}) == "reached: 3 to 4.25 x"
    assert said({"tails": {"a": {"speedup": 2.5}, "b": {"speedup": 4.25}}}) == "missed: 2.5 to 4.25 x"
    assert said({"tails": {"a": {"speedup": 3.5}}}, "stopped") == "reached: 3.5 x"  # what it had by then
    assert said({}) == NOT_RUN
    assert said("cannot be read", "failed") == "failed: it failed"
    assert list(figures({"a": {"b": [1, 5, 2]}}, ("a", "b"))) == [2.0]
    assert list(figures({"a": {"b": True and 1}}, ("a",))) == []


def test_two_gpus_are_named_once() -> None:
    two = MACHINE | {"gpus": [{"name": "Some GPU"}, {"name": "Some GPU"}], "gpu_driver": "580.1\n580.1"}
    found = cells(TESTED, checked(kernels=part(tests=ran(["test_gclu[a]"]), machine=two)))
    assert found[2:4] == ["2 x Some GPU", "580.1"]


def test_what_training_reached() -> None:
    claim = Claim("c", "make gpu-train", training=Training("r", "last", 3), at_least=93.5, unit="%")
    run = {"recipe": "r", "changes": {}, "seeds": [0, 1, 2], "seconds": 99.0, "last": {"mean": 93.7}}
    row = [*ROW[:3], "`benchmarks/results/gpu_train.json`"]
    assert cells(claim, None, trained(run)) == ["reached: 93.7 %", *row]
    assert cells(claim, None, trained(run | {"last": {"mean": 93.4}})) == ["missed: 93.4 %", *row]
    for other in ({"seeds": [0, 1]}, {"changes": {"epochs": 1}}, {"recipe": "s"}):
        assert cells(claim, None, trained(run | other)) == [NOT_RUN] * 5
    assert cells(claim, None) == [NOT_RUN] * 5
