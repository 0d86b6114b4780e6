"""Inspect: a table of layers and a verdict, of ONNX files and of engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from rc_deploy import manifest
from rc_deploy.inspection import engine_layers, inspect, onnx_layers


def test_layers_of_a_graph(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    layers = onnx_layers(model)
    assert [layer["name"] for layer in layers] == [node.name for node in model.graph.node]
    stem = next(layer for layer in layers if layer["operator"] == "Conv")
    assert (stem["type"], stem["shape"]) == ("float", ["batch", 16, 16, 16])
    assert stem["weight bytes"] == 4 * (16 * 3 * 3 * 3 + 16)
    assert {"rc.GCLU", "rc.ResponseCalibration"} <= {layer["operator"] for layer in layers}


def test_every_weight_counts_once(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    twin = model.graph.node.add()
    twin.CopyFrom(node)
    twin.name, twin.output[0] = "twin", "twin"
    layers = onnx_layers(model)
    weights = [onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer]
    assert sum(layer["weight bytes"] for layer in layers) == sum(weights)


def test_types_that_a_file_leaves_out_are_inferred(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    stated = onnx_layers(model)
    del model.graph.value_info[:]
    assert [layer["type"] for layer in onnx_layers(model)] == [layer["type"] for layer in stated]


def test_what_is_not_known_is_not_guessed() -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="elsewhere")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xz"]
    relu = helper.make_node("Relu", ["y"], ["z"])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("elsewhere", 1)]
    model = helper.make_model(helper.make_graph([node, relu], "g", ends[:1], ends[1:]), opset_imports=opsets)
    mystery, known = onnx_layers(model)
    assert (mystery["operator"], mystery["type"], mystery["shape"]) == ("elsewhere.Mystery", "?", "?")
    assert (known["type"], known["shape"]) == ("float", [1])


def test_verdicts(small_onnx: Path, small_engine: Path) -> None:
    verdict = inspect(small_onnx).verdict
    assert verdict.startswith("fp32 ONNX of rescnet8: convolutions and matrix products 100% float; all layers")
    assert verdict.endswith("10 rc nodes with bodies")
    # Ten convolutions and products; the three products of each of three response calibrations stay float32.
    verdict = inspect(small_engine).verdict
    assert verdict.startswith("fp16 engine for tensorrt-rtx: convolutions and matrix products 53% half, 47% float;")
    assert verdict.endswith("10 rc nodes native")
    assert (
        "fp16 ONNX of rescnet8: convolutions and matrix products 53% half, 47% float"
        in inspect(small_engine.with_suffix(".onnx")).verdict
    )


@pytest.fixture
def changed(small_engine: Path, tmp_path: Path) -> Callable[[dict[str, list[str]]], Path]:
    """Give a copy of the small engine other layers."""

    def change(layers: dict[str, list[str]]) -> Path:
        for path in (small_engine, small_engine.with_suffix(".onnx")):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        document: dict[str, Any] = json.loads(manifest.path_for(small_engine).read_text())
        engine = tmp_path / small_engine.name
        manifest.path_for(engine).write_text(json.dumps(document | {"layers": layers}))
        return engine

    return change


def test_a_layer_left_in_float32_shows_in_the_verdict(changed: Callable[..., Path]) -> None:
    engine = changed({"CONVOLUTION HALF": ["0:a", "2:c", "10:d"], "CONVOLUTION FLOAT": ["1:b"]})
    assert "convolutions and matrix products 75% half, 25% float" in inspect(engine).verdict
    assert [row["name"] for row in inspect(engine).layers] == ["a", "b", "c", "d"]


def test_plugins_show_in_table_and_verdict(changed: Callable[..., Path]) -> None:
    engine = changed({"PLUGIN_V3 HALF": ["0:gclu", "1:calibration"], "CONVOLUTION HALF": ["2:conv"]})
    found = inspect(engine)
    assert found.verdict.endswith("2 rc nodes plugins, 8 rc nodes native")
    assert [row["runs"] for row in found.layers] == ["plugin", "plugin", "native"]


def test_an_engines_layers_are_all_there_in_order(small_engine: Path) -> None:
    record = manifest.read(small_engine)
    rows = engine_layers(record)
    labels = sorted((label for names in record.layers.values() for label in names), key=lambda x: int(x.split(":")[0]))
    assert [row["name"] for row in rows] == [label.partition(":")[2] for label in labels]


def test_long_tables_are_cut_and_json_is_whole(small_engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rc_deploy.cli import show

    found = inspect(small_engine)
    assert len(found.layers) > show.MOST_ROWS
    show.inspected(found, None)
    shown = capsys.readouterr().out
    assert f"and {len(found.layers) - show.MOST_ROWS} more layers: --json - shows all" in shown
    assert found.layers[0]["name"] in shown
    show.inspected(found, "-")
    assert json.loads(capsys.readouterr().out)["layers"] == found.layers
