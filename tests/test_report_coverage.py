"""A report says PASS of an engine only where something in it is about that very engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rc_deploy.files import json_text
from rc_deploy.report import Summary, build_report, documents
from rc_deploy.report.reproduce import commands
from rc_deploy.report.summary import precision
from report_documents import (
    ENGINE,
    TYPED,
    bench,
    everything,
    failed,
    first,
    manifest,
    training,
    validation,
    write,
)

PROOF = {
    "data": "digits:test",
    "images": 9,
    "reference_sha256": "c" * 64,
    "executed": "Test Runtime",
    "note": "",
    "max_error": 0.1,
    "agreement": 90.0,
    "passed": True,
}


def summary(folder: Path, *documents: dict[str, Any]) -> Summary:
    write(folder, {f"{index}.json": document for index, document in enumerate(documents)})
    return build_report([folder], folder / "report.html")


def about(sha256: str, precision: str = "fp16") -> dict[str, Any]:
    """A validation that passed, of the file with this SHA-256."""
    document = validation(precision)
    first(document)["artefact"] |= {"sha256": sha256}
    return document


@pytest.mark.parametrize("sha256", [ENGINE, TYPED])
def test_an_engine_passes_by_itself_or_by_the_graph_it_was_compiled_from(sha256: str, tmp_path: Path) -> None:
    assert summary(tmp_path, manifest(), about(sha256)).verdict.word == "PASS"


@pytest.mark.parametrize("other", [about("9" * 64), about(TYPED, "fp32"), validation("fp32", error=1e-6)])
def test_an_engine_that_no_validation_is_about_does_not_pass(other: dict[str, Any], tmp_path: Path) -> None:
    verdict = summary(tmp_path, manifest(), other).verdict
    assert (verdict.word, verdict.passed) == ("NOT VALIDATED", None)
    assert "No validation is about up.fp16.engine (SHA-256 eeeeeeeeeeee…)" in verdict.sentences[0]
    assert f"about other files: {Path(first(other)['artefact']['path']).name}" in verdict.sentences[1]
    assert "NOT VALIDATED" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_one_engine_of_two_is_not_enough(tmp_path: Path) -> None:
    other = manifest()
    other["engine"] = {"name": "other.engine", "sha256": "9" * 64}
    other["typed_onnx"] = {"name": "other.onnx", "sha256": "8" * 64}
    verdict = summary(tmp_path, manifest(), other, about(ENGINE)).verdict
    assert verdict.word == "NOT VALIDATED"
    assert "other.engine" in verdict.sentences[0]
    assert "up.fp16.engine" not in verdict.sentences[0]


def test_a_proof_in_the_manifest_counts_beside_a_validation(tmp_path: Path) -> None:
    proven = manifest() | {"proven": {"validation": PROOF}}
    verdict = summary(tmp_path, proven, validation("fp32", error=1e-6)).verdict
    assert verdict.word == "PASS"
    assert verdict.sentences[-1] == "That up.fp16.engine passed, on 9 images, is on record in its manifest only."


def test_failures_come_before_what_was_not_validated(tmp_path: Path) -> None:
    assert summary(tmp_path, manifest(), validation("fp32", error=0.5)).verdict.word == "FAIL"


def test_what_was_timed_but_not_validated_is_noted(tmp_path: Path) -> None:
    unknown = bench()
    unknown["artefacts"][1] |= {"sha256": "9" * 64, "path": "made/rebuilt.onnx"}
    notes = summary(tmp_path / "a", unknown, validation()).notes
    assert [name for name, _ in notes] == ["rebuilt.onnx"]
    assert "timed but not validated" in notes[0][1]
    assert summary(tmp_path / "b", bench(), validation()).notes == ()
    # The graph behind an engine that was validated needs no validation of its own.
    assert summary(tmp_path / "c", bench(), manifest(), about(ENGINE)).notes == ()
    assert not any("timed" in note for _, note in summary(tmp_path / "d", *everything().values()).notes)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_null_stands_for_what_is_not_finite(value: float, tmp_path: Path) -> None:
    document = failed(validation(error=value))
    first(document)["comparison"] |= {"mean_error": value}
    diverged = training()
    diverged["metrics"]["history"][-1]["loss"] = value
    recorded = manifest() | {"proven": {"validation": PROOF | {"max_error": value, "passed": False}}}
    for name, item in (("v.json", document), ("t.json", diverged), ("m.json", recorded)):
        text = json_text(item)
        assert "null" in text
        (tmp_path / name).write_text(text, encoding="utf-8")
    verdict = build_report([tmp_path], tmp_path / "report.html").verdict
    assert verdict.word == "FAIL"
    assert "largest error of a logit is not finite, at most 0.0340 is allowed" in verdict.sentences[0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "all within not finite" in page
    assert "the last: not finite" in page


def test_long_lists_of_settings_are_shown_in_short(tmp_path: Path) -> None:
    many = training()
    many["arguments"] = {"classes": [f"class{index}" for index in range(1000)]}
    summary(tmp_path, many)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "class11, … (1,000 in all)" in page
    assert "class12" not in page


def test_a_build_is_repeated_as_it_was_asked_for(tmp_path: Path) -> None:
    """Several profiles, layers that stay float32, and the data that ranges were measured on."""
    document = manifest()
    document["batch"] = "1:1:1,4:8:16"
    calibration = {"data": "cifar10:train", "images": 64, "method": "entropy"}
    document["precision"] |= {"asked": "int8", "kept": ["conv_1"], "calibration": calibration}
    write(tmp_path, {"up.engine.json": document})
    command = commands(documents.load([tmp_path]))[0].replace(" \\\n", "")
    command = " ".join(command.split())
    assert "--int8" in command
    assert "--batch 1:1:1 --batch 4:8:16" in command
    assert "--keep-fp32 conv_1" in command
    assert "--calibration cifar10:train --calibration-images 64 --calibration-method entropy" in command


def test_layers_that_should_stay_float32_are_none_that_are_missing(tmp_path: Path) -> None:
    document = manifest()
    for found, passed in (({"HALF": 4, "FLOAT": 2}, True), ({"HALF": 3, "FLOAT": 3}, False)):
        document["precision"]["planned"] = {"narrow": 4, "wide": 2}
        document["precision"]["found"]["compute_layers"] = found
        write(tmp_path, {"up.engine.json": document})
        (build,) = documents.load([tmp_path]).builds
        text, verdict = precision(build)
        assert verdict is passed
        assert "of 4 convolutions and matrix products are fp16 and 2 stay float32" in text
