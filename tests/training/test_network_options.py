"""Options of residual networks: the rows of Tables 3 and 4, and the two integrations of Fig. 6."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rc_deploy.nn import GCLU, ResponseCalibration, gclu, response_calibration
from rc_training.blocks import Bottleneck, ResidualBlock, SqueezeExcitation
from rc_training.models import create
from rc_training.resnet import HEADS


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def of_type(network: nn.Module, *kinds: type[nn.Module]) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kinds)]


@pytest.mark.parametrize(
    ("head", "reduction"),
    [("fc2", None), ("fc3", 2), ("fc3", 4), ("fc3", 8), ("fc3_relu", 4), ("fc3_sigmoid", 4)],
)
def test_parameters_of_table_4(head: str, reduction: int | None) -> None:
    """RC adds 2 C^2 + 2 C with two Linears, 3 C^2 / r + (2 + 1 / r) C with three; ResCNet-32 has 5 of each C."""
    options: dict[str, Any] = {} if reduction is None else {"reduction": reduction}
    extra = 0
    for c in (16, 32, 64):
        extra += 5 * (2 * c * c + 2 * c if reduction is None else (3 * c * c + c) // reduction + 2 * c)
    assert parameters(create("rescnet32", 100, head=head, **options)) == 472_756 + extra


@pytest.mark.parametrize(
    ("head", "predicted"),
    [
        ("fc2", lambda rc, g: rc.mean(g)),
        ("fc3", lambda rc, g: rc.mean(rc.squeeze(g))),
        ("fc3_relu", lambda rc, g: rc.mean(rc.squeeze(g).relu())),
        ("fc3_sigmoid", lambda rc, g: rc.mean(rc.squeeze(g).sigmoid())),
    ],
)
def test_heads(head: str, predicted: Any) -> None:
    """Once the layer's other head gives log_var = 0, what it returns tells mu."""
    torch.manual_seed(0)
    layer = of_type(create("rescnet8", head=head), ResponseCalibration)[0]
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    nn.init.zeros_(layer.log_var.weight)
    nn.init.zeros_(layer.log_var.bias)
    a = torch.randn(4, 16, 3, 3)
    mu = predicted(layer, a.mean((2, 3)))
    torch.testing.assert_close(layer(a), response_calibration(a, mu, torch.zeros_like(mu)))


def test_heads_keep_the_names_of_weights() -> None:
    """Checkpoints name them; the default has the names of rc_deploy 0.1."""
    prefix = "stages.2.0.calibration."
    names = {
        head: {name.removeprefix(prefix) for name in create("rescnet8", head=head).state_dict() if prefix in name}
        for head in HEADS
    }
    both = {f"{layer}.{kind}" for layer in ("mean", "log_var") for kind in ("weight", "bias")}
    assert names["fc2"] == both
    assert names["fc3"] == names["fc3_relu"] == names["fc3_sigmoid"] == both | {"squeeze.weight", "squeeze.bias"}


def test_an_activation_needs_a_squeezing_layer() -> None:
    with pytest.raises(ValueError, match="which reduction None leaves out"):
        ResponseCalibration(8, None, activation=nn.ReLU())


@pytest.mark.parametrize("name", ["resnet8", "rescnet20", "senet50", "rescnet50_imagenet"])
def test_resnet_d_has_as_many_parameters(name: str) -> None:
    with torch.device("meta"):
        assert parameters(create(name, shortcut="avgpool")) == parameters(create(name))


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_resnet_d_shortcut(size: tuple[int, int]) -> None:
    network: Any = create("resnet8", shortcut="avgpool").eval()
    assert isinstance(network.stages[0][0].shortcut, nn.Identity)
    block = network.stages[1][0]
    assert [type(layer) for layer in block.shortcut] == [nn.AvgPool2d, nn.Conv2d, nn.BatchNorm2d]
    x = torch.randn(2, 16, *size)
    # The average of each 2x2 square; at the end of an odd axis, of what there is.
    padded = nn.functional.pad(x, (0, size[1] % 2, 0, size[0] % 2))
    count = nn.functional.pad(torch.ones_like(x), (0, size[1] % 2, 0, size[0] % 2))
    sums, counts = (
        part[:, :, ::2, ::2] + part[:, :, 1::2, ::2] + part[:, :, ::2, 1::2] + part[:, :, 1::2, 1::2]
        for part in (padded, count)
    )
    expected = block.shortcut[2](torch.einsum("nchw,oc->nohw", sums / counts, block.shortcut[1].weight[:, :, 0, 0]))
    torch.testing.assert_close(block.shortcut(x), expected)
    assert block(x).shape == block.branch(x).shape == expected.shape


def test_only_the_first_block_of_later_stages_pools() -> None:
    with torch.device("meta"):
        network: Any = create("rescnet50", shortcut="avgpool")
    pools = [[len(of_type(block, nn.AvgPool2d)) for block in stage] for stage in network.stages]
    assert pools == [[0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 0, 0]]
    # Widening without a stride needs no pool: the first block's shortcut is as before.
    assert [type(layer) for layer in network.stages[0][0].shortcut] == [nn.Conv2d, nn.BatchNorm2d]
    assert all(
        conv.stride == (1, 1)
        for block in of_type(network, ResidualBlock)
        for conv in of_type(block.shortcut, nn.Conv2d)
    )


@pytest.mark.parametrize(
    ("activation", "approximate"),
    [("relu", "none"), ("gclu", "none"), ("gclu_tanh", "tanh"), ("gclu_sigmoid", "sigmoid")],
)
def test_parallel_integration_is_gclu_in_place_of_relu(activation: str, approximate: str) -> None:
    network = create("rescnet20", activation=activation, integration="parallel").eval()
    assert not of_type(network, ResponseCalibration, nn.ReLU)
    assert {layer.approximate for layer in of_type(network, GCLU)} == {approximate}
    resnet = create("resnet20", activation="gclu" if activation == "relu" else activation).eval()
    resnet.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network(x), resnet(x), rtol=0, atol=0)


def test_gclu_is_relu_with_a_calibration_beside_it() -> None:
    """Sec. 5.3.2: the same calibration, beside ReLU on the same input, which is taken to be N(0, 1)."""
    x = torch.randn(4, 3, 50, dtype=torch.float64)
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    calibration = response_calibration(x, zeros, zeros, 1e-12) - x
    torch.testing.assert_close(gclu(x), torch.relu(x) + calibration, rtol=0, atol=1e-11)


def test_fifty_layers_for_small_images() -> None:
    """3x3 stem of 64 without a stride or max pool; in bottlenecks the 3x3 convolution has the stride."""
    with torch.device("meta"):
        network: Any = create("rescnet50")
        sizes = []
        for stage in network.stages:
            stage.register_forward_hook(lambda *call: sizes.append(tuple(call[2].shape[1:])))
        network(torch.empty(2, 3, 32, 32))
    assert sizes == [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)]
    assert [type(layer) for layer in network.stem] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    blocks = of_type(network, Bottleneck)
    assert [block.branch[3].stride[0] for block in blocks] == [1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1]
    assert all(block.branch[0].stride == block.branch[6].stride == (1, 1) for block in blocks)
    assert {layer.squeeze.out_features * 16 for layer in of_type(network, ResponseCalibration)} == {
        256,
        512,
        1024,
        2048,
    }


def test_the_papers_senet_50() -> None:
    """Biases in convolutions and SE Linears, and one activation more, after the branch's last BN."""
    with torch.device("meta"):
        network, usual = create("senet50"), create("senet32")
    assert all(conv.bias is not None for conv in of_type(network, nn.Conv2d))
    assert all(layer.gate[0].bias is not None for layer in of_type(network, SqueezeExcitation))
    assert all(isinstance(block.branch[-1], nn.ReLU) for block in of_type(network, ResidualBlock))
    assert {layer.gate[0].out_features * 16 for layer in of_type(network, SqueezeExcitation)} == {256, 512, 1024, 2048}
    assert all(layer.gate[0].bias is None for layer in of_type(usual, SqueezeExcitation))
    assert all(isinstance(block.branch[-1], nn.BatchNorm2d) for block in of_type(usual, ResidualBlock))


@pytest.mark.parametrize("name", ["resnet50", "senet50", "rescnet50"])
def test_fifty_layers_learn(name: str) -> None:
    network = create(name, activation="gclu", shortcut="avgpool")
    network(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert network.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 10)
