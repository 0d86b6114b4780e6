"""What a graph from a stranger may ask of a machine; each rule alone, and that the networks' own graphs meet it."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mutations
from rc_deploy import manifest
from rc_deploy.errors import InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.bounds import LARGEST_TENSOR, require_bounded, require_finite_calls, require_own_weights, tensors
from rc_deploy.inspection import inspect


@pytest.fixture
def model(small_onnx: Path) -> Any:
    return onnx.load(small_onnx)


def test_own_graphs_are_within_bounds(model: Any, small_engine: Path) -> None:
    for graph in (model, onnx.load(small_engine.with_suffix(".onnx"))):
        require_own_weights(graph, "m.onnx")
        require_finite_calls(graph, "m.onnx")
        require_bounded(graph, "m.onnx")


def planted(value: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["planted"], value=value)


@pytest.mark.parametrize("place", ["weight", "constant", "body", "subgraph", "sparse weight", "without a name"])
def test_weights_elsewhere_are_found_wherever_they_are(place: str, model: Any) -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], b"\0" * 4, raw=True)
    mutations.outside(tensor, np.random.default_rng(0))
    if place == "weight":
        model.graph.initializer.append(tensor)
    elif place == "constant":
        model.graph.node.append(planted(tensor))
    elif place == "body":
        model.functions[0].node.append(planted(tensor))
    elif place == "subgraph":
        inner = helper.make_graph([planted(tensor)], "inner", [], [])
        outer = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=inner)], "outer", [], [])
        model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=outer))
    elif place == "sparse weight":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    else:
        del tensor.external_data[:]
        model.graph.initializer.append(tensor)
    assert tensor in list(tensors(model))
    with pytest.raises(InputError, match="keeps weights in"):
        require_own_weights(model, "m.onnx")


@pytest.mark.parametrize("chain", [["GCLU", "GCLU"], ["GCLU", "ResponseCalibration", "GCLU"]])
def test_functions_that_call_themselves(chain: list[str], model: Any) -> None:
    bodies = {function.name: function for function in model.functions}
    for caller, called in pairwise(chain):
        bodies[caller].node.append(helper.make_node(called, ["x"], ["y"], domain="rc"))
    with pytest.raises(InputError, match=r"its function rc\.\w+ calls itself"):
        require_finite_calls(model, "m.onnx")


def test_functions_may_call_others(model: Any) -> None:
    bodies = {function.name: function for function in model.functions}
    bodies["ResponseCalibration"].node.append(helper.make_node("GCLU", ["x"], ["y"], domain="rc"))
    require_finite_calls(model, "m.onnx")


@pytest.mark.parametrize(
    ("change", "phrase"),
    [(mutations.endless_loop, "uses Loop: loops"), (mutations.vast_constant, "'vast', which would exhaust the memory")],
)
def test_endless_and_vast_graphs(change: mutations.Change, phrase: str, model: Any) -> None:
    change(model, np.random.default_rng(0))
    with pytest.raises(InputError, match=phrase):
        require_bounded(model, "m.onnx")


def test_sizes_from_values_inside_functions(model: Any) -> None:
    model.functions[0].node.append(helper.make_node("ConstantOfShape", ["x"], ["vast"]))
    with pytest.raises(InputError, match="uses ConstantOfShape: tensors sized by values, in a function"):
        require_bounded(model, "m.onnx")


@pytest.mark.parametrize(("size", "fits"), [(LARGEST_TENSOR, True), (LARGEST_TENSOR + 1, False)])
def test_the_largest_tensor(size: int, fits: bool, model: Any) -> None:
    del model.graph.value_info[1:]
    model.graph.value_info[0].type.tensor_type.shape.ClearField("dim")
    model.graph.value_info[0].type.tensor_type.shape.dim.add(dim_param="batch")
    model.graph.value_info[0].type.tensor_type.shape.dim.add(dim_value=size)
    model.graph.ClearField("node")
    if fits:
        require_bounded(model, "m.onnx")
    else:
        with pytest.raises(InputError, match="would exhaust the memory"):
            require_bounded(model, "m.onnx")


def test_texts_that_are_none(small_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for name in (b"node_gclu", b"stages.0.0", b"rc_deploy"):
        path.write_bytes(small_onnx.read_bytes().replace(name, b"\xdb" + name[1:]))
        with pytest.raises(InputError, match="is not text") as caught:
            onnx_model.load(path)
        assert caught.value.hint


def test_what_stands_in_an_engines_place_is_held_against_its_manifest(small_engine: Path, tmp_path: Path) -> None:
    typed = small_engine.with_suffix(".onnx")
    for path in (typed, manifest.path_for(small_engine)):
        shutil.copy(path, tmp_path)
    engine = Path(shutil.copy(typed, tmp_path / small_engine.name))
    with pytest.raises(InputError, match="SHA-256 differs"):
        inspect(engine)
