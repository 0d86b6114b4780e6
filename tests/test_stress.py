"""Inputs made to break things: a right artefact passes them all; faults that real images do not show fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from conftest import SPEC
from rc_deploy import stress
from rc_deploy.runners import OnnxRunner
from rc_deploy.specs import BatchRange, Precision
from rc_deploy.tolerances import Rounding
from rc_deploy.validate import ValidateOptions, validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPTIONS = ValidateOptions("random:7", limit=64, batch=64)
NUMBERS = "inputs made to break things, done wrong"
BATCHES = "largest error of a logit, other batch sizes"


def test_cases_are_fixed_and_cover_what_they_name() -> None:
    first, again = (stress.images_of(stress.cases(SPEC)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    names = [case.name for case in stress.cases(SPEC)]
    by_name = dict(zip(names, first, strict=True))
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (SPEC.mean, SPEC.std))
    np.testing.assert_allclose(by_name["white"], np.broadcast_to((1 - mean) / std, SPEC.shape), rtol=1e-6)
    assert [len(np.unique(channel)) for channel in by_name["every value at one end of its range"]] == [2, 2, 2]
    spot = by_name["one white pixel on black"] != by_name["black"]
    assert spot.sum() == 3
    assert np.isnan(by_name["one NaN pixel"]).sum() == 3
    assert 0 < np.abs(by_name["subnormal noise of 1e-40"]).max() < np.finfo(np.float32).tiny


@pytest.mark.parametrize("suffix", [".onnx", ".fp16.onnx", ".fp16.engine"])
def test_right_artefacts_pass(suffix: str, small_checkpoint: Path, small_engine: Path) -> None:
    outcome = validate(small_checkpoint.with_suffix(suffix), small_checkpoint, OPTIONS)
    assert outcome.passed
    by_name = {item.name: item for _, item in outcome.stress}
    assert by_name["NaN everywhere"].expected == "no numbers"
    assert by_name["black"].bound is not None
    assert (by_name["noise of 10000"].bound is None) == ("fp16" in suffix)
    assert {criterion.name for criterion in outcome.criteria} >= {NUMBERS, BATCHES}


def test_they_can_be_left_out(small_checkpoint: Path, small_onnx: Path) -> None:
    outcome = validate(small_onnx, small_checkpoint, replace(OPTIONS, stress=False))
    assert outcome.stress == ()
    assert {NUMBERS, BATCHES}.isdisjoint(criterion.name for criterion in outcome.criteria)


def clean_input(model: onnx.ModelProto) -> None:
    """A NaN becomes a number on the way in, as a clamp or a lookup would make it one."""
    rename_input(model, onnx.helper.make_node("Where", ["is_nan", "zero", "input"], ["clean"]))
    model.graph.node.insert(0, onnx.helper.make_node("IsNaN", ["input"], ["is_nan"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero"))


def clip_input(model: onnx.ModelProto) -> None:
    """Values beyond those of normalised images are cut off."""
    rename_input(model, onnx.helper.make_node("Clip", ["input", "low", "high"], ["clean"]))
    for name, value in (("low", -5.0), ("high", 5.0)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))


def rename_input(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    for other in model.graph.node:
        for index, name in enumerate(other.input):
            if name == "input":
                other.input[index] = "clean"
    model.graph.node.insert(0, node)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [(clean_input, {"NaN everywhere", "one NaN pixel"}), (clip_input, {"noise of 10000"})],
)
def test_faults_that_real_images_do_not_show(
    change: Callable[[onnx.ModelProto], None],
    wrong: set[str],
    small_checkpoint: Path,
    small_onnx: Path,
    tmp_path: Path,
) -> None:
    model = onnx.load(small_onnx)
    change(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    outcome = validate(tmp_path / "wrong.onnx", small_checkpoint, OPTIONS)
    assert [criterion.name for criterion in outcome.criteria if not criterion.passed] == [NUMBERS]
    assert {item.name for _, item in outcome.stress if not item.passed} >= wrong
    plain = validate(tmp_path / "wrong.onnx", small_checkpoint, replace(OPTIONS, stress=False))
    assert plain.passed


@pytest.mark.parametrize("size", [1, stress.ODD_BATCH, 64])
def test_a_size_of_batch_that_goes_wrong_is_found(
    size: int, small_checkpoint: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = OnnxRunner.run

    def wrong(self: OnnxRunner, images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = right(self, images)
        return logits * np.float32(1.01) if len(images) == size else logits

    monkeypatch.setattr(OnnxRunner, "run", wrong)
    outcome = validate(small_onnx, small_checkpoint, replace(OPTIONS, batch=50 if size != 64 else 64))
    assert BATCHES in [criterion.name for criterion in outcome.criteria if not criterion.passed]


def test_sizes_of_batches() -> None:
    for allowed, available, sizes in (
        (BatchRange(1, 8, 64), 1000, (1, 37, 64)),
        (BatchRange(1, 250, 250), 100, (1, 37)),
        (BatchRange(1, 8, 8), 100, (1, 8)),
        (BatchRange(40, 40, 64), 100, (40, 64)),
        (BatchRange(5, 5, 5), 3, ()),
    ):
        assert stress.batches(allowed, available) == sizes


def judge(expected: float, found: float, precision: Precision, wide: bool = False) -> bool:
    case = stress.Case("made up", np.zeros((1, 1, 1), np.float32), wide)
    reference, artefact = (np.full((1, 4), value, np.float32) for value in (expected, found))
    (outcome,) = stress.judge([case], reference, artefact, [Rounding(arithmetic=1, stores=1)], precision, 1.0)
    return outcome.passed


def test_what_is_no_number_must_stay_none() -> None:
    for precision in (Precision.FP32, Precision.FP16):
        assert judge(np.nan, np.nan, precision)
        assert judge(np.inf, np.nan, precision)
        assert not judge(np.nan, 1.0, precision)
        assert not judge(1.0, np.nan, precision)
        assert judge(1.0, 1.0, precision)
        assert not judge(1.0, 1.1, precision)
    assert judge(1.0, np.nan, Precision.FP16, wide=True)  # beyond float16's range
    assert not judge(1.0, np.nan, Precision.FP32, wide=True)
