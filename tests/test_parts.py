"""Coarsely typed graphs are proven by parts: right ones pass, and every planted fault fails where it should."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rc_deploy.bisection import bisect
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.graph import bodies
from rc_deploy.graph.precision import ONNX_TYPES
from rc_deploy.graph.quantise import FP8, INT8, channel_scales, fake_quantised, step
from rc_deploy.graph.skeleton import unpacked
from rc_deploy.runners import onnx_session
from rc_deploy.specs import Precision
from rc_deploy.validate import ValidateOptions, validate

if TYPE_CHECKING:
    from rc_deploy.verdict import Validation

# Other images than those of the calibration.
NOISE = ValidateOptions(data="random:7")
QUANTISED = (Precision.INT8, Precision.FP8)
WEIGHT, RANGE = "largest error of a weight (half steps)", "largest factor between a range and the one measured here"
SOUND = "quantisers with unequal halves or a zero point"
SKELETON = "largest error of a logit without narrow types"
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def outcomes(small_checkpoint: Path, small_typed: dict[Precision, Path]) -> dict[Precision, Validation]:
    return {precision: validate(path, small_checkpoint, NOISE) for precision, path in small_typed.items()}


@pytest.mark.parametrize("precision", [Precision.BF16, *QUANTISED])
def test_right_graphs_pass(precision: Precision, outcomes: dict[Precision, Validation]) -> None:
    outcome = outcomes[precision]
    assert outcome.passed, [item for item in outcome.criteria if not item.passed]
    assert {WEIGHT, SKELETON} <= {item.name for item in outcome.criteria}
    assert ({RANGE, SOUND} <= {item.name for item in outcome.criteria}) == precision.quantised
    assert ("no bfloat16 convolution" in outcome.artefact.note) == (precision is Precision.BF16)


def test_layers_of_a_bfloat16_graph(small_checkpoint: Path, small_typed: dict[Precision, Path]) -> None:
    """Of a quantised one there are no tolerances for layers: its criteria name them, and `bisect` itself refuses."""
    outcome = validate(small_typed[Precision.BF16], small_checkpoint, replace(NOISE, bisect=True))
    assert outcome.layers is not None
    assert outcome.layers.first is None
    quantised = validate(small_typed[Precision.INT8], small_checkpoint, replace(NOISE, bisect=True))
    assert quantised.passed
    assert quantised.layers is None
    with pytest.raises(UnsupportedError, match="int8 graphs are proven by parts"):
        bisect(quantised.artefact, quantised.reference, np.zeros((1, 3, 16, 16), np.float32))


@pytest.mark.parametrize("precision", [Precision.BF16, *QUANTISED])
def test_bounds_have_no_room_to_spare(precision: Precision, outcomes: dict[Precision, Validation]) -> None:
    """The noise of quantisation is computed, not guessed: its bound is within a factor of 10 of the error."""
    outcome = outcomes[precision]
    found = {item.name: item for item in outcome.criteria}
    factor = 50 if precision is Precision.BF16 else 10
    assert outcome.tolerance.maximum < factor * outcome.comparison.max_error
    assert outcome.tolerance.mean < factor * outcome.comparison.mean_error
    assert found[SKELETON].bound < 50 * found[SKELETON].value
    assert found[WEIGHT].value > 0.9


def named(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def scaled(name: str, factor: float, channel: int | None = None) -> Change:
    def change(model: onnx.ModelProto) -> None:
        values = numpy_helper.to_array(named(model, name)).copy()
        if channel is None:
            values *= np.float32(factor)
        else:
            values[channel] *= np.float32(factor)
        named(model, name).CopyFrom(numpy_helper.from_array(values, name))

    return change


def stored(name: str, edit: Callable[[np.ndarray], None]) -> Change:
    """Change the bytes of a narrow tensor."""

    def change(model: onnx.ModelProto) -> None:
        tensor = named(model, name)
        values = np.frombuffer(tensor.raw_data, np.uint8).reshape(tuple(tensor.dims)).copy()
        edit(values)
        tensor.raw_data = values.tobytes()

    return change


def swap_channels(values: np.ndarray) -> None:
    values[[0, 1]] = values[[1, 0]]


def one(values: np.ndarray) -> None:
    values[...] = 1


def unequal_halves(model: onnx.ModelProto) -> None:
    node = next(
        node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0].startswith("input")
    )
    twice = numpy_helper.to_array(named(model, "input_scale")) * np.float32(1.1)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(twice, np.float32), "other_scale"))
    node.input[1] = "other_scale"


def wrong_sign_in_a_body(model: onnx.ModelProto) -> None:
    for function in model.functions:
        for node in function.node:
            if node.op_type == "Add" and "calibration" in node.input:
                node.op_type = "Sub"


def wrong_epsilon(model: onnx.ModelProto) -> None:
    for node in bodies.rc_nodes(model):
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = 1e-2


def wrong_bias(model: onnx.ModelProto) -> None:
    scaled("classifier.bias", 1.001)(model)


SECOND = "stages.1.0.branch.3.weight"
FAULTS: dict[str, tuple[Change, str]] = {
    "range twice as large": (scaled("gclu_2_scale", 2), RANGE),
    "range half as large": (scaled("gclu_2_scale", 0.5), RANGE),
    "range of 0": (scaled("gclu_2_scale", 0), RANGE),
    "unequal halves": (unequal_halves, SOUND),
    "scale of one channel twice as large": (scaled(f"{SECOND}_scale", 2, 3), WEIGHT),
    "scale of one channel half as large": (scaled(f"{SECOND}_scale", 0.5, 3), WEIGHT),
    "two channels of a weight swapped": (stored(f"{SECOND}_quantised", swap_channels), WEIGHT),
    "wrong sign in a body": (wrong_sign_in_a_body, SKELETON),
    "wrong epsilon": (wrong_epsilon, SKELETON),
    "a bias off by 0.1%": (wrong_bias, SKELETON),
}


# The layer that each is at; those of the skeleton are found by the --bisect of a float graph.
MODULES = {
    "range twice as large": "stages.1.0.branch.0",
    "range half as large": "stages.1.0.branch.0",
    "range of 0": "stages.1.0.branch.0",
    "unequal halves": "stem.0",
    "scale of one channel twice as large": "stages.1.0.branch.3",
    "scale of one channel half as large": "stages.1.0.branch.3",
    "two channels of a weight swapped": "stages.1.0.branch.3",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_fail(fault: str, small_onnx: Path, small_typed: dict[Precision, Path], tmp_path: Path) -> None:
    change, part = FAULTS[fault]
    for precision in QUANTISED:
        model = onnx.load(small_typed[precision])
        change(model)
        onnx.save(model, tmp_path / "wrong.onnx")
        outcome = validate(tmp_path / "wrong.onnx", small_onnx, replace(NOISE, limit=200))
        failed = {item.name: item.where for item in outcome.criteria if not item.passed}
        assert part in failed, precision
        assert failed[part] == MODULES.get(fault, ""), precision


def test_an_int8_scale_off_by_2_is_traced_to_its_layer(
    small_checkpoint: Path, small_typed: dict[Precision, Path], tmp_path: Path, here: Callable[..., tuple[object, str]]
) -> None:
    model = onnx.load(small_typed[Precision.INT8])
    scaled("gclu_2_scale", 2)(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    sources = ("--reference", small_checkpoint, "--data", NOISE.data, "--limit", "200")
    code, said = here("validate", tmp_path / "wrong.onnx", *sources, "--bisect")
    assert code == 8
    assert re.search(
        r"range and the one measured here is 2\.\d+, not <= 1\.414, at " + MODULES["range twice as large"], said
    )


def test_zero_point_of_an_activation_fails(
    small_onnx: Path, small_typed: dict[Precision, Path], tmp_path: Path
) -> None:
    """In float8 ONNX Runtime itself refuses it."""
    for precision in QUANTISED:
        model = onnx.load(small_typed[precision])
        stored("gclu_2_zero_point", one)(model)
        onnx.save(model, tmp_path / f"wrong.{precision}.onnx")
    outcome = validate(tmp_path / "wrong.int8.onnx", small_onnx, replace(NOISE, limit=200))
    assert SOUND in [item.name for item in outcome.criteria if not item.passed]
    with pytest.raises(InputError, match="ONNX Runtime"):
        validate(tmp_path / "wrong.fp8.onnx", small_onnx, replace(NOISE, limit=8))


def test_zero_point_of_a_weight_fails(small_onnx: Path, small_typed: dict[Precision, Path], tmp_path: Path) -> None:
    """All values off by one step: twice half a step, on top of their own rounding."""
    model = onnx.load(small_typed[Precision.INT8])
    stored(f"{SECOND}_zero_point", one)(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    outcome = validate(tmp_path / "wrong.onnx", small_onnx, replace(NOISE, limit=32))
    (found,) = (item for item in outcome.criteria if item.name == WEIGHT)
    assert not found.passed
    assert found.value == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("change", [wrong_sign_in_a_body, wrong_epsilon])
def test_planted_faults_fail_in_bfloat16(
    change: Change, small_onnx: Path, small_typed: dict[Precision, Path], tmp_path: Path
) -> None:
    model = onnx.load(small_typed[Precision.BF16])
    change(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    outcome = validate(tmp_path / "wrong.onnx", small_onnx, replace(NOISE, limit=64))
    assert SKELETON in [item.name for item in outcome.criteria if not item.passed]


def test_one_bfloat16_weight_off_by_a_step_fails(
    small_onnx: Path, small_typed: dict[Precision, Path], tmp_path: Path
) -> None:
    model = onnx.load(small_typed[Precision.BF16])
    tensor = named(model, SECOND)
    bits = np.frombuffer(tensor.raw_data, np.uint16).copy()
    bits[77] += 1
    tensor.raw_data = bits.tobytes()
    onnx.save(model, tmp_path / "wrong.onnx")
    outcome = validate(tmp_path / "wrong.onnx", small_onnx, replace(NOISE, limit=64))
    assert [item.name for item in outcome.criteria if not item.passed] == [WEIGHT]


def test_weights_of_another_network_are_refused(
    small_onnx: Path, small_typed: dict[Precision, Path], tmp_path: Path
) -> None:
    model = onnx.load(small_typed[Precision.INT8])
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["other.weight_dequantised" if name == f"{SECOND}_dequantised" else name for name in names]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="1 weights of the artefact are not in the reference's graph"):
        validate(tmp_path / "other.onnx", small_onnx, replace(NOISE, limit=8))


@pytest.mark.parametrize(("kind", "dtype"), [(INT8, np.int8), (FP8, ml_dtypes.float8_e4m3fn)])
def test_steps_are_those_of_the_type(kind: int, dtype: type, rng: np.random.Generator) -> None:
    """No weight is off by more than half a step, and some are by almost half."""
    weight = rng.standard_normal((5, 400)).astype(np.float32) * np.array([[1], [3], [1e-3], [50], [0]], np.float32)
    scales = channel_scales(weight, 0, kind)
    found = fake_quantised(weight.astype(np.float64), scales[:, None], kind)
    ratio = np.abs(found - weight) / (step(weight.astype(np.float64), kind, 0) / 2)
    assert 0.95 < ratio.max() <= 1 + 1e-4
    assert scales[4] == 1
    tensor = onnx.helper.make_tensor("w", kind, (2,), np.array([-1, 2], dtype).tobytes(), raw=True)
    assert unpacked(tensor).tolist() == [-1, 2]


@pytest.mark.parametrize("precision", QUANTISED)
def test_relu_before_a_quantiser_stays(precision: Precision) -> None:
    """ONNX Runtime's default optimisations drop it in float8: the network would compute something else."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[4, 4] x) => (float[4, 4] y)'
        "<float s = {1.0}> { r = Relu (x) q = QuantizeLinear (r, s, z) y = DequantizeLinear (q, s, z) }"
    )
    model.graph.initializer.append(onnx.helper.make_tensor("z", ONNX_TYPES[precision], (), b"\0", raw=True))
    x = np.linspace(-8, 7, 16, dtype=np.float32).reshape(4, 4)
    found = onnx_session(model, threads=1, as_written=True).run(None, {"x": x})[0]
    assert np.array_equal(found, np.maximum(x, 0))
