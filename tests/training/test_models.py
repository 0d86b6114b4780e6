"""Networks: the published parameter counts, shapes, activations and initialisation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from rc_deploy.nn import GCLU, ResponseCalibration
from rc_training.blocks import ACTIVATIONS, ResidualBlock, SqueezeExcitation
from rc_training.models import ARCHITECTURES, create


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# The paper's Tables 1 and 5, which print thousands: 23,520.84, 26,078.39, 27,324.41 for the last three.
@pytest.mark.parametrize(
    ("name", "for_10", "for_100"),
    [
        ("resnet8", 78_042, 83_892),
        ("resnet32", 466_906, 472_756),
        ("senet32", 480_346, 486_196),
        ("rescnet32", 488_326, 494_176),
        ("resnet56", 855_770, 861_620),
        ("senet56", 879_962, 885_812),
        ("rescnet56", 894_326, 900_176),
        ("resnet50", 23_520_842, 23_705_252),
        ("senet50", 26_078_394, 26_262_804),
        ("rescnet50", 27_324_410, 27_508_820),
    ],
)
def test_cifar_parameters(name: str, for_10: int, for_100: int) -> None:
    with torch.device("meta"):
        assert parameters(create(name, 10)) == for_10
        assert parameters(create(name, 100)) == for_100


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18_imagenet", 11_689_512),
        ("resnet34_imagenet", 21_797_672),
        ("resnet50_imagenet", 25_557_032),
        ("rescnet18_imagenet", 11_824_032),
        ("rescnet34_imagenet", 22_041_236),
        ("rescnet50_imagenet", 29_360_600),
    ],
)
def test_imagenet_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters(create(name, 1000)) == count


@pytest.mark.parametrize("depth", [8, 20, 32, 56])
@pytest.mark.parametrize("family", ["resnet", "senet", "rescnet"])
def test_layers_on_the_longest_path(family: str, depth: int) -> None:
    network = create(f"{family}{depth}")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == depth
    assert all(m.bias is None for m in network.modules() if isinstance(m, nn.Conv2d))
    layer = {"resnet": nn.Identity, "senet": SqueezeExcitation, "rescnet": ResponseCalibration}[family]
    blocks = [m for m in network.modules() if isinstance(m, ResidualBlock)]
    assert len(blocks) == (depth - 2) // 2
    assert all(isinstance(block.calibration, layer) for block in blocks)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (3, 1, 8, 8), (1, 2, 13, 9)])
@pytest.mark.parametrize("name", ["resnet8", "senet8", "rescnet8"])
def test_any_image_size(name: str, shape: tuple[int, int, int, int]) -> None:
    network = create(name, 7, in_channels=shape[1]).eval()
    assert network(torch.randn(shape)).shape == (shape[0], 7)


@pytest.mark.parametrize("name", ["resnet18_imagenet", "rescnet18_imagenet", "rescnet50_imagenet"])
def test_imagenet_shapes(name: str) -> None:
    network: Any = create(name, 5).eval()
    sizes = []
    for stage in network.stages:
        stage.register_forward_hook(lambda *call: sizes.append(call[2].shape[2]))
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 5)
    assert sizes == [16, 8, 4, 2]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_place_has_its_own_activation(activation: str) -> None:
    kind = type(ACTIVATIONS[activation]())
    for name, count in {
        "resnet20": 1 + 2 * 9,
        "senet20": 1 + 3 * 9,
        "rescnet50_imagenet": 1 + 3 * 16,
    }.items():
        with torch.device("meta"):
            network = create(name, activation=activation)
        found = [m for m in network.modules() if isinstance(m, kind)]  # modules() lists each instance once
        assert len(found) == count
        assert activation == "relu" or not any(isinstance(m, nn.ReLU) for m in network.modules())


def test_approximations_reach_the_layers() -> None:
    for activation, approximate in {"gclu": "none", "gclu_sigmoid": "sigmoid", "gclu_tanh": "tanh"}.items():
        layers = [m for m in create("resnet8", activation=activation).modules() if isinstance(m, GCLU)]
        assert {layer.approximate for layer in layers} == {approximate}


def test_block_adds_calibration_and_shortcut_before_the_activation() -> None:
    network: Any = create("rescnet8")
    block = network.stages[1][0].eval()
    x = torch.randn(2, 16, 8, 8)
    a = block.branch(x)
    hidden = block.calibration.squeeze(a.mean((2, 3)))
    mu, log_var = block.calibration.mean(hidden), block.calibration.log_var(hidden)
    z = (a - mu[..., None, None]) / (torch.exp(log_var / 2)[..., None, None] + 1e-5)
    w = 0.5 * torch.erfc(z.abs() / math.sqrt(2))  # Eq. 4
    torch.testing.assert_close(block(x), torch.relu(a + a * w + block.shortcut(x)))


def test_initialisation() -> None:
    torch.manual_seed(0)
    network: Any = create("rescnet20", 100)
    last = network.stages[2][-1]
    weight = last.branch[0].weight  # 64 x 64 x 3 x 3
    # 36,864 draws: the standard error of their standard deviation is 0.4%.
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert last.calibration.mean.weight.std().item() == pytest.approx(0.01, rel=0.1)
    hidden = last.calibration.squeeze(torch.randn(4, 64))
    # mu = 0 and std = 1 to begin with: two Linears of N(0, 0.01) take 64 standard normal features to
    # N(0, (0.01 * 8) * (0.01 * 4)) = N(0, 0.003); ten times that never happens.
    assert last.calibration.mean(hidden).abs().max() < 0.03
    assert last.calibration.log_var(hidden).abs().max() < 0.03
    assert network.classifier.bias.abs().max() == 0


def test_imagenet_initialisation_scales_by_fan_out() -> None:
    torch.manual_seed(0)
    network: Any = create("resnet18_imagenet")
    assert network.stem[0].weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.03)


@pytest.mark.parametrize("name", ["resnet8", "senet8", "rescnet8"])
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = create(name, in_channels=1, activation="gclu")
    network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"architecture must be one of resnet8, .*not 'resnet9'"):
        create("resnet9")
    with pytest.raises(ValueError, match=r"activation must be one of relu, .*not 'swish'"):
        create("resnet8", activation="swish")
    with pytest.raises(ValueError, match="resnet has none"):
        create("resnet8", reduction=4)
    with pytest.raises(ValueError, match=r"channels \(16\) must be a multiple of reduction \(5\)"):
        create("rescnet8", reduction=5)
    with pytest.raises(ValueError, match="reduction must be at least 1, not 0"):
        create("senet8", reduction=0)
    with pytest.raises(ValueError, match="num_classes must be at least 1, not 0"):
        create("resnet8", 0)
    with pytest.raises(TypeError, match="dropout"):
        create("resnet8", dropout=1)
    with pytest.raises(ValueError, match="head must be one of fc3, fc2, fc3_relu, fc3_sigmoid, not 'fc4'"):
        create("rescnet8", head="fc4")
    with pytest.raises(ValueError, match="shortcut must be one of conv, avgpool, not 'pool'"):
        create("rescnet8", shortcut="pool")
    with pytest.raises(ValueError, match="integration must be one of serial, parallel, not 'none'"):
        create("rescnet8", integration="none")
    for name in ("resnet8", "senet8"):
        with pytest.raises(ValueError, match=f"{name[:-1]} has none"):
            create(name, head="fc2")
        with pytest.raises(ValueError, match=f"{name[:-1]} has none"):
            create(name, integration="parallel")
    with pytest.raises(ValueError, match="'fc2' has no squeezing Linear, and so no reduction"):
        create("rescnet8", head="fc2", reduction=4)
    with pytest.raises(ValueError, match="takes neither reduction nor head"):
        create("rescnet8", integration="parallel", reduction=4)
    with pytest.raises(ValueError, match="cannot be 'gelu'"):
        create("rescnet8", activation="gelu", integration="parallel")


def test_factories_take_what_a_checkpoint_names() -> None:
    network = ARCHITECTURES["rescnet8"](num_classes=3, activation="gclu", in_channels=1)
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 3)
