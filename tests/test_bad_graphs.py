"""Graphs that other tools made, or spoiled: each is refused in words before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from conftest import CALIBRATION
from rc_deploy.assignment import PrecisionOptions, assign
from rc_deploy.engine import BuildOptions, build
from rc_deploy.errors import InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.precision import typed
from rc_deploy.specs import CalibrationMethod, Precision
from rc_deploy.validate import ValidateOptions, validate

Change = Callable[[ModelProto], None]


def no_input(model: ModelProto) -> None:
    shape = numpy_helper.from_array(np.zeros((1, 3, 16, 16), np.float32), model.graph.input[0].name)
    model.graph.initializer.append(shape)
    del model.graph.input[:]


def two_inputs(model: ModelProto) -> None:
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "second"


def two_outputs(model: ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Relu", ["logits"], ["second"]))
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "second"


def batch_of_none(model: ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 0
    del model.graph.value_info[:]


def another_image(model: ModelProto) -> None:
    text = model.metadata_props[0].value
    model.metadata_props[0].value = text.replace('"shape": [3, 16, 16]', '"shape": [3, 8, 8]')
    assert model.metadata_props[0].value != text


def a_class_too_many(model: ModelProto) -> None:
    text = model.metadata_props[0].value
    model.metadata_props[0].value = text.replace('"classes": ["a"', '"classes": ["z", "a"')
    assert model.metadata_props[0].value != text


@pytest.mark.parametrize("change", [no_input, two_inputs, two_outputs, batch_of_none, another_image, a_class_too_many])
def test_in_and_outputs_must_be_those_of_a_classifier(
    change: Change, small_onnx: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    model = onnx.load(small_onnx)
    change(model)
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match="its metadata ask for one float32 image"):
        validate(path, path, ValidateOptions("random:0", limit=2))
    with pytest.raises(InputError, match="its metadata ask for one float32 image"):
        build(path, tmp_path / "built.engine", BuildOptions(Precision.FP16))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["odd.onnx"]


def no_nodes(model: ModelProto) -> None:
    del model.graph.node[:]


def unknown_operator(model: ModelProto) -> None:
    next(node for node in model.graph.node if node.domain == "rc").op_type = "Foo"


@pytest.mark.parametrize(
    ("change", "phrase"), [(no_nodes, "holds no operators at all"), (unknown_operator, "uses rc.Foo, which")]
)
def test_graphs_that_nothing_could_run(change: Change, phrase: str, small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    change(model)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(InputError, match=phrase):
        onnx_model.load(tmp_path / "odd.onnx")


@pytest.mark.parametrize("there", [True, False])
def test_weights_in_a_second_file_are_refused(there: bool, small_onnx: Path, tmp_path: Path) -> None:
    """There or not: the SHA-256 of the first file says nothing about them."""
    onnx.save(onnx.load(small_onnx), tmp_path / "model.onnx", save_as_external_data=True, location="model.data")
    if not there:
        (tmp_path / "model.data").unlink()
    with pytest.raises(InputError, match=r"keeps weights in 1 other files, the first being model\.data") as caught:
        onnx_model.load(tmp_path / "model.onnx")
    assert "onnx.save" in caught.value.hint


def with_weight(path: Path, value: float) -> ModelProto:
    """The graph with one value of its first convolution's weight replaced."""
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize(("value", "phrase"), [(np.nan, "no numbers"), (-np.inf, "no numbers"), (7e4, "ends at 65504")])
def test_weights_that_float16_cannot_hold(value: float, phrase: str, small_onnx: Path) -> None:
    with pytest.raises(InputError, match=phrase):
        typed(with_weight(small_onnx, value), Precision.FP16, "model")


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_a_network_that_overflows_has_no_ranges(method: CalibrationMethod, small_onnx: Path) -> None:
    asked = PrecisionOptions(Precision.INT8, calibration=replace(CALIBRATION, method=method))
    with pytest.raises(InputError, match=r"Tensor '\S+' of the network holds values that are no numbers"):
        assign(with_weight(small_onnx, 3e38), asked, "model")


@pytest.mark.parametrize("value", [1e-30, -2e-8, 4e-8, 2.0**-24, 3.1e-5])
def test_small_weights_round_as_in_ieee_754(value: float, small_onnx: Path) -> None:
    source = with_weight(small_onnx, value)
    before = source.SerializeToString(deterministic=True)
    converted = typed(source, Precision.FP16, "model")
    tensor = next(tensor for tensor in converted.graph.initializer if len(tensor.dims) == 4)
    assert tensor.data_type == TensorProto.FLOAT16
    assert numpy_helper.to_array(tensor).flat[0] == np.float32(value).astype(np.float16)
    assert source.SerializeToString(deterministic=True) == before, "what is converted is left alone"
