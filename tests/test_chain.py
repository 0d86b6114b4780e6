"""Chains: the matrix shows where an error arises, and what it has come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

import faults
from conftest import SPEC
from rc_deploy import data
from rc_deploy.cli import parity
from rc_deploy.errors import InputError, ParityError
from rc_deploy.matrix import Link, matrix
from rc_deploy.report import documents
from rc_deploy.specs import Precision
from rc_deploy.tolerances import Tolerance
from rc_deploy.validate import ValidateOptions, validate, validate_chain
from rc_deploy.verdict import Chain, require_passed

OPTIONS = ValidateOptions("random:7", limit=64)


def tolerance(maximum: float) -> Tolerance:
    return Tolerance(maximum=maximum, mean=maximum / 10, condition=1.0, variance=1e-14, scale=1.0)


def test_steps_and_sums_of_known_logits() -> None:
    """Errors of 1, 1 + 2 and 3 - 2: the step says where, the sum how far."""
    base = np.tile(np.array([10.0, 0, 0, 0, 0, 0]), (4, 1))
    offsets = [0.0, 0.0, 1.0, 3.0, 1.0]
    tolerances = [tolerance(0.5), None, tolerance(3.0), tolerance(4.0), tolerance(4.0)]
    links = [
        Link(f"link {index}", "runner", "fp32", (base + offset)[: 2 if index == 0 else 4], bound)
        for index, (offset, bound) in enumerate(zip(offsets, tolerances, strict=True))
    ]
    rows = matrix(links, np.array([0, 0, 0, 1]))
    assert [row.images for row in rows] == [2, 4, 4, 4, 4]
    steps = [None if row.step is None else row.step.comparison.max_error for row in rows]
    sums = [None if row.sum is None else row.sum.comparison.max_error for row in rows]
    assert (steps, sums) == ([None, 0, 1, 2, 2], [None, None, 1, 3, 1])
    assert rows[1].step is not None
    assert (rows[1].step.comparison.images, rows[1].step.maximum) == (2, 0.5)
    # Two errors against the reference, 3 and 4 at most, differ by 5.
    assert rows[3].step is not None
    assert (rows[3].step.maximum, rows[3].step.used) == pytest.approx((5.0, 0.4))
    assert rows[3].sum is not None
    assert rows[3].sum.used == 0.75
    assert [row.accuracy for row in rows] == [100, 75, 75, 75, 75]


@pytest.fixture(scope="module")
def chain(small_checkpoint: Path, small_onnx: Path, small_engine: Path) -> Chain:
    return validate_chain([small_onnx, small_engine], small_checkpoint, replace(OPTIONS, float64=40))


def test_a_chain_from_float64_to_the_engine(chain: Chain, small_checkpoint: Path) -> None:
    assert chain.passed
    assert [item.artefact.kind.name for item in chain.validations] == ["ONNX", "ENGINE"]
    first, reference, *others = chain.matrix
    assert (first.precision, first.images, first.step, first.sum) == ("float64", 40, None, None)
    assert (reference.precision, reference.sum) == ("fp32", None)
    assert reference.step is not None
    assert 0 < reference.step.comparison.max_error < 1e-4
    assert [row.precision for row in others if "native" not in row.title] == ["fp32", "fp16"]
    assert others[0].step is others[0].sum
    last = others[-1]
    assert last.step is not None
    assert last.sum is not None
    # Nearly all of the engine's error arises where the graph becomes float16.
    assert last.step.comparison.mean_error == pytest.approx(last.sum.comparison.mean_error, rel=0.01)
    assert last.step.used < 1


def test_each_artefact_is_judged_as_it_would_be_alone(chain: Chain, small_checkpoint: Path) -> None:
    for together in chain.validations:
        alone = validate(together.artefact.path, small_checkpoint, OPTIONS)
        assert alone.tolerance == together.tolerance
        assert alone.comparison == together.comparison
        assert [item.name for item in alone.criteria] == [item.name for item in together.criteria]


def test_without_float64_the_reference_is_the_first_link(small_checkpoint: Path, small_onnx: Path) -> None:
    for reference, float64 in ((small_checkpoint, 0), (small_onnx, 32)):
        rows = validate_chain([small_onnx], reference, replace(OPTIONS, float64=float64)).matrix
        assert (rows[0].precision, rows[0].step, rows[0].sum) == ("fp32", None, None)


def test_one_wrong_artefact_fails_the_chain(
    small_checkpoint: Path, small_onnx: Path, small_engine: Path, tmp_path: Path
) -> None:
    model = onnx.load(small_onnx)
    faults.wrong_sign(model, "ResponseCalibration")
    onnx.save(model, tmp_path / "wrong.onnx")
    outcome = validate_chain([tmp_path / "wrong.onnx", small_engine], small_checkpoint, OPTIONS)
    assert [item.passed for item in outcome.validations] == [False, True]
    assert not outcome.passed
    with pytest.raises(ParityError, match=r"wrong\.onnx does not compute what .*small\.pt computes: largest error"):
        require_passed(outcome)
    # A step leads away from the reference and, whether native kernels come between or not, another one back.
    _, _, wrong, *after = outcome.matrix
    assert wrong.step is not None
    assert wrong.step.used > 1
    assert sum(row.step.used > 1 for row in after if row.step) == 1
    assert all(row.sum.used < 1 for row in after if row.sum)


def test_the_document_is_read_by_the_report(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps(chain.to_json()))
    found = documents.load([tmp_path / "v.json"])
    assert [item.artefact.precision for item in found.validations] == ["fp32", "fp16"]
    assert found.chains[0].passed


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_fit(width: int, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(markup=False, highlight=False, width=width, record=True)
    monkeypatch.setattr("rc_deploy.cli.parity.console", lambda: console)
    parity.validated(chain, chain.to_json(), None)
    lines = console.export_text().splitlines()
    assert max(len(line) for line in lines) <= width
    text = "\n".join(lines)
    for words in ("float64", "both", "step", "sum", "of tol.", "McNemar p"):
        assert words in text
    assert "…" not in text.replace("SHA-256", "")
    assert ("p99.9" in text) == ("float64, 40 images" in text) == (width == 100)
    assert "1 small.pt fp32" in text


def test_drawn_images_are_the_seeds(small_checkpoint: Path, small_onnx: Path) -> None:
    load: Callable[..., data.ImageSet] = lambda limit, seed: data.load("random:1", spec=SPEC, limit=limit, seed=seed)  # noqa: E731
    every, first, drawn = load(None, 3), load(16, None), load(16, 3)
    assert drawn.numbers is not None
    assert sorted(drawn.numbers) == drawn.numbers.tolist()
    assert len(set(drawn.numbers.tolist())) == 16
    np.testing.assert_array_equal(drawn.images, every.images[drawn.numbers])
    assert not np.array_equal(drawn.images, first.images)
    np.testing.assert_array_equal(load(16, 3).images, drawn.images)
    assert not np.array_equal(load(16, 4).images, drawn.images)
    assert every.numbers is None


def test_flips_are_numbered_in_the_data_set(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    """Of drawn images, those that change class are named by their place among all."""
    model = onnx.load(small_onnx)
    faults.scale_weight(model, "classifier", "Gemm", -1.0)
    onnx.save(model, tmp_path / "turned.onnx")
    every, drawn = (
        validate(tmp_path / "turned.onnx", small_checkpoint, replace(OPTIONS, limit=limit, seed=3, stress=False))
        for limit in (None, 32)
    )
    flipped = dict(zip(every.comparison.flips, every.comparison.flipped, strict=True))
    assert drawn.comparison.flips
    assert dict(zip(drawn.comparison.flips, drawn.comparison.flipped, strict=True)).items() <= flipped.items()


def test_accuracy_needs_labels_before_anything_runs(
    small_checkpoint: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rc_deploy.validate.run_chain", lambda *_: pytest.fail("the images were run"))
    with pytest.raises(InputError, match="has no labels"):
        validate(small_onnx, small_checkpoint, replace(OPTIONS, max_accuracy_drop=0.1))


def test_precisions_of_the_stress_set_are_known() -> None:
    from rc_deploy import stress

    assert {precision.value for precision in Precision} >= stress.FLOATING - {"bf16"}
