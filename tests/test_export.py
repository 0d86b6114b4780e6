"""Export: what the ONNX file holds, and that a file which is wrong is never written."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import pytest
import torch
from torch import nn

from conftest import SPEC, plant_in_bodies, randomised
from rc_deploy import checkpoint, data, models
from rc_deploy import export as export_module
from rc_deploy import nn as rc
from rc_deploy.checkpoint import Checkpoint
from rc_deploy.errors import ParityError, UnsupportedError
from rc_deploy.export import ExportOptions, export
from rc_deploy.files import sha256
from rc_deploy.graph import bodies
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.from_torch import MODULE_KEY, onnx_from_module
from rc_deploy.runners import OnnxRunner, TorchRunner


@pytest.fixture(scope="module")
def model(small_onnx: Path) -> onnx.ModelProto:
    return onnx.load(small_onnx)


def test_rc_nodes_are_the_networks_layers(model: onnx.ModelProto, small_checkpoint: Path) -> None:
    network = checkpoint.load(small_checkpoint).module()
    modules = Counter(type(module).__name__ for module in network.modules())
    nodes = Counter(node.op_type for node in bodies.rc_nodes(model))
    assert nodes == {"GCLU": modules["GCLU"], "ResponseCalibration": modules["ResponseCalibration"]}
    assert all(count > 0 for count in nodes.values())


def test_nodes_carry_plugin_attributes_and_their_module(model: onnx.ModelProto) -> None:
    for node in bodies.rc_nodes(model):
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert attributes["plugin_namespace"] == b"rc"
        assert attributes["plugin_version"] == b"1"
        assert attributes.get("approximate") == b"none" or attributes.get("epsilon") == pytest.approx(1e-5)
        assert [entry.key for entry in node.metadata_props] == [MODULE_KEY]


def test_file_names_nothing_of_the_machine(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # among that many random bytes, short names turn up by chance
    content = model.SerializeToString()
    for trace in (b"/home", b"/root", b"/work", b"/tmp", b".py", b"site-packages"):
        assert trace not in content


def test_batchnorms_are_folded_and_the_batch_is_symbolic(model: onnx.ModelProto) -> None:
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    assert shapes
    for node in model.graph.node:
        if node.op_type in ("Conv", "GCLU", "ResponseCalibration"):
            assert shapes[node.output[0]][0].dim_param == "batch", node.name


def test_versions_and_metadata(model: onnx.ModelProto, small_checkpoint: Path) -> None:
    assert model.ir_version == 10
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20, "rc": 1}
    found = onnx_model.provenance(model, "model")
    assert found.architecture == "rescnet8"
    assert found.input == SPEC
    assert found.checkpoint_sha256 == sha256(small_checkpoint)


def test_same_checkpoint_gives_the_same_bytes(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    assert export(small_checkpoint, again).sha256 == sha256(small_onnx)


def test_safetensors_gives_the_same_network(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    checkpoint.save(checkpoint.load(small_checkpoint), copy)
    export(copy, tmp_path / "copy.onnx")
    first, second = onnx.load(small_onnx), onnx.load(tmp_path / "copy.onnx")
    del first.metadata_props[:], second.metadata_props[:]
    assert first == second


@pytest.mark.parametrize("opset", [18, 21])
def test_other_opsets(small_checkpoint: Path, tmp_path: Path, opset: int) -> None:
    result = export(small_checkpoint, tmp_path / "model.onnx", ExportOptions(opset=opset))
    model = onnx.load(result.path)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset, "rc": 1}
    assert all(function.opset_import[0].version == opset for function in model.functions)


def test_static_batch(small_checkpoint: Path, tmp_path: Path) -> None:
    result = export(small_checkpoint, tmp_path / "model.onnx", ExportOptions(static_batch=3))
    model = onnx.load(result.path)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [3, *SPEC.shape]
    images = data.normalise(data.load("random:1", spec=SPEC).head(7).images, SPEC)
    with OnnxRunner(model) as onnx_runner, TorchRunner(checkpoint.load(small_checkpoint).module()) as torch_runner:
        np.testing.assert_allclose(onnx_runner.run(images), torch_runner.run(images), atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "activation"),
    [
        ("resnet8", "gelu"),
        ("senet8", "relu"),
        ("rescnet20", "relu"),
        ("resnet8", "gclu_sigmoid"),
        ("rescnet8", "gclu_tanh"),
    ],
)
def test_every_family_and_activation(architecture: str, activation: str, tmp_path: Path) -> None:
    arguments = {"num_classes": 10, "activation": activation}
    network = randomised(models.create(architecture, arguments), SPEC.shape)
    path = tmp_path / "net.pt"
    checkpoint.save(Checkpoint(architecture, arguments, SPEC, network.state_dict()), path)
    result = export(path, tmp_path / "net.onnx")
    blocks = {"rescnet20": 9, "rescnet8": 3}.get(architecture, 0)
    assert result.rc_layers.get("ResponseCalibration", 0) == blocks
    assert ("GCLU" in result.rc_layers) == activation.startswith("gclu")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Add (positive, calibration)", "Sub (positive, calibration)"),
        ("Sub (finite, mu)", "Add (finite, mu)"),
        ("Constant <value_float: float = 0.7071067811865476>", "Constant <value_float: float = 0.708>"),
    ],
)
def test_wrong_body_is_not_written(
    old: str, new: str, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = tmp_path / "model.onnx"
    earlier.write_bytes(b"earlier")
    plant_in_bodies(monkeypatch, old, new)
    with pytest.raises(ParityError, match="rounding explains at most"):
        export(small_checkpoint, earlier)
    assert earlier.read_bytes() == b"earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


# The networks below give a logit per channel.
THREE_CLASSES = replace(SPEC, classes=("a", "b", "c"))


class Inlined(nn.Module):
    """Computes a GCLU without our module: one node that no layer accounts for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rc.gclu(x).mean((2, 3))


class Unfolded(nn.Module):
    """A BatchNorm that follows no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(torch.relu(x))).mean((2, 3))


class DataDependent(nn.Module):
    """Control flow that no graph can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (Inlined, ParityError, r"holds \{'GCLU': 1\} rc nodes; the network calls \{\}"),
        (Unfolded, ParityError, "1 BatchNormalization nodes could not be folded"),
        (DataDependent, UnsupportedError, "PyTorch could not export the network"),
    ],
)
def test_networks_that_cannot_be_exported(
    network: type[nn.Module], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.pt"
    checkpoint.save(Checkpoint("custom", {}, THREE_CLASSES, network().state_dict()), path)
    factory = f"{network.__module__}:{network.__qualname__}"
    with pytest.raises(error, match=message):
        export(path, tmp_path / "net.onnx", ExportOptions(factory=factory))
    assert not (tmp_path / "net.onnx").exists()


def test_module_called_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = rc.GCLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.act(x)).mean((2, 3))  # type: ignore[no-any-return]

    network = Twice().eval()
    calls = export_module._rc_calls(network, THREE_CLASSES)
    model = onnx_from_module(network, THREE_CLASSES)
    assert calls == Counter(node.op_type for node in bodies.rc_nodes(model)) == {"GCLU": 2}
