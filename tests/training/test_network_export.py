"""Every kind of network through `rc-deploy export`, which proves the file against PyTorch before it writes it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from torch import Tensor, nn

from conftest import randomised
from rc_deploy import checkpoint, data
from rc_deploy.checkpoint import Checkpoint
from rc_deploy.export import ExportOptions, export
from rc_deploy.graph import bodies
from rc_deploy.graph.fuse import fused
from rc_deploy.graph.roundings import roundings
from rc_deploy.nn import ResponseCalibration
from rc_deploy.nn.roundings import roundings as traced
from rc_deploy.runners import OnnxRunner
from rc_deploy.specs import InputSpec
from rc_training.blocks import BasicBlock, BlockOptions, Bottleneck, conv_bn
from rc_training.models import create
from rc_training.resnet import Layout, residual_network

if TYPE_CHECKING:
    from pathlib import Path


def spec(size: int) -> InputSpec:
    return InputSpec((3, size, size), (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), tuple("abcdefghij"))


class EveryHead(nn.Module):
    """Four residual blocks, each with another head in its RC layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers = [
            ResponseCalibration(8, 4),
            ResponseCalibration(8, None),
            ResponseCalibration(8, 4, activation=nn.ReLU()),
            ResponseCalibration(8, 4, activation=nn.Sigmoid()),
        ]
        options = (BlockOptions(nn.ReLU, lambda _, layer=layer: layer) for layer in layers)  # type: ignore[misc]
        self.stem = nn.Sequential(*conv_bn(3, 8, 3))
        self.blocks = nn.Sequential(*(BasicBlock(8, 8, 1, each) for each in options))
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


def network(name: str, **arguments: Any) -> nn.Module:
    """Return a network by name; "bottlenecks" is a small one of the kind that SENet-50 is."""
    if name == "every head":
        return EveryHead(**arguments)
    if name == "bottlenecks":
        return residual_network("senet", Layout(Bottleneck, (1, 1), 8, reduction=4, biased_senet=True), **arguments)
    return create(name, **arguments)


def exported(name: str, arguments: dict[str, Any], size: int, folder: Path) -> tuple[onnx.ModelProto, nn.Module]:
    """Return the ONNX model as written, and the network."""
    arguments = {"name": name, "num_classes": 10, **arguments}
    made = randomised(network(**arguments), (3, size, size))
    checkpoint.save(Checkpoint(name, arguments, spec(size), made.state_dict()), folder / "net.pt")
    factory = f"{network.__module__}:{network.__qualname__}"
    export(folder / "net.pt", folder / "net.onnx", ExportOptions(factory=factory))
    return onnx.load(folder / "net.onnx"), made


@pytest.mark.parametrize(
    ("name", "arguments", "size", "nodes"),
    [
        ("alexnet", {"activation": "gclu", "hidden": 16}, 32, {"GCLU": 7}),
        ("vit_tiny", {"activation": "gclu", "dim": 24, "depth": 2, "image_size": 16}, 16, {"GCLU": 2}),
        ("swin_tiny", {"activation": "gclu_sigmoid", "dim": 12, "depths": [2, 1]}, 32, {"GCLU": 3}),
        ("cait_xxs", {"activation": "gclu_tanh", "dim": 16, "depth": 1, "image_size": 16}, 16, {"GCLU": 3}),
        ("bottlenecks", {"activation": "gelu", "shortcut": "avgpool"}, 13, {}),
    ],
)
def test_every_kind_exports(
    name: str, arguments: dict[str, Any], size: int, nodes: dict[str, int], tmp_path: Path
) -> None:
    model, made = exported(name, arguments, size, tmp_path)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert Counter(node.op_type for node in bodies.rc_nodes(model)) == nodes
    # Tolerances read the same sums off the file as off the network.
    read, seen = roundings(model), traced(made, (3, size, size))
    assert sum(rounding.reduction for rounding in read) == sum(rounding.reduction for rounding in seen) > 0


def test_every_head_exports_and_fuses(tmp_path: Path) -> None:
    model, _ = exported("every head", {}, 8, tmp_path)
    assert Counter(node.op_type for node in bodies.rc_nodes(model)) == {"ResponseCalibration": 4}
    whole = fused(model)
    # The perceptron of a CalibratedTail has two layers and nothing between them.
    assert [node.op_type for node in bodies.rc_nodes(whole)] == ["CalibratedTail"] + 3 * ["CalibratedResidual"]
    images = data.normalise(data.load("random:0", spec=spec(8)).head(4).images, spec(8))
    with OnnxRunner(model, bodies=True) as before, OnnxRunner(whole, bodies=True) as after:
        np.testing.assert_allclose(after.run(images), before.run(images), rtol=1e-5, atol=1e-5)
