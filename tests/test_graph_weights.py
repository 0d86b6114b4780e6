"""Graphs are checked around their weights: what is wrong with a weight is found all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, TensorProto

from rc_deploy.errors import InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph import weights
from rc_deploy.graph.inline import inlined


def largest(model: ModelProto) -> TensorProto:
    found: TensorProto = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    return found


def cut_off(model: ModelProto) -> None:
    largest(model).raw_data = largest(model).raw_data[:-4]


def negative_size(model: ModelProto) -> None:
    largest(model).dims[0] *= -1


def two_kinds_of_data(model: ModelProto) -> None:
    largest(model).float_data.append(1.0)


def no_such_type(model: ModelProto) -> None:
    largest(model).data_type = 99


def another_shape(model: ModelProto) -> None:
    """Sound in itself, and not what its convolution takes."""
    tensor = largest(model)
    tensor.dims[:] = [1, *reversed(tensor.dims)]
    del model.graph.value_info[:]


def said_to_be_something_else(model: ModelProto) -> None:
    name = largest(model).name
    del model.graph.value_info[:]
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, TensorProto.INT64, [7]))


FAULTS = [cut_off, negative_size, two_kinds_of_data, no_such_type, another_shape, said_to_be_something_else]


@pytest.fixture(autouse=True)
def _every_weight_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_LARGE", 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_weight_is_found(fault: Callable[[ModelProto], None], small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    onnx_model.check(model, "m.onnx")
    fault(model)
    with pytest.raises(InputError, match=r"m\.onnx is not a valid ONNX model"):
        onnx_model.check(model, "m.onnx")


def test_two_weights_of_one_name_stay(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    model.graph.initializer.append(largest(model))
    assert [tensor.name for tensor in weights.with_open_weights(model).graph.initializer].count(
        largest(model).name
    ) == 2


def test_nothing_but_weights_is_left_out(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    light = weights.with_open_weights(model)
    added = light.graph.input[len(model.graph.input) :]
    assert {value.name for value in added} >= {largest(model).name}
    assert {value.name for value in added}.isdisjoint(tensor.name for tensor in light.graph.initializer)
    for form in (light, weights.without_weights(model)):
        del form.graph.input[len(model.graph.input) :], form.graph.initializer[:]
    del model.graph.initializer[:]
    assert light.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_inlining_keeps_inputs_and_weights(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    flat = inlined(model)
    assert list(flat.graph.input) == list(model.graph.input)
    assert list(flat.graph.initializer) == list(model.graph.initializer)
    onnx_model.check(flat, "flat")


def as_it_is(_: ModelProto) -> None:
    pass


def texts_and_tables(model: ModelProto) -> None:
    """Fields on both sides of the weights, in every message that holds them."""
    model.doc_string = model.graph.doc_string = largest(model).doc_string = "said of it"
    model.training_info.add()
    model.graph.sparse_initializer.add().dims.append(3)
    model.graph.quantization_annotation.add(tensor_name="x")


def no_weights(model: ModelProto) -> None:
    del model.graph.initializer[:]


def no_graph(model: ModelProto) -> None:
    model.ClearField("graph")


def lengths_about_a_byte_more(model: ModelProto) -> None:
    """Where the length of a length changes: a length is written seven bits a byte."""
    for length in (0, 1, 126, 127, 128, 129, 16383, 16384, 2097151, 2097152):
        model.graph.initializer.add(name=str(length), data_type=TensorProto.UINT8, raw_data=bytes(length))


@pytest.mark.parametrize(
    "change", [as_it_is, *FAULTS, texts_and_tables, no_weights, no_graph, lengths_about_a_byte_more]
)
def test_bytes_are_those_that_protobuf_makes(change: Callable[[ModelProto], None], small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    change(model)
    assert weights.serialised(model) == model.SerializeToString(deterministic=True)
