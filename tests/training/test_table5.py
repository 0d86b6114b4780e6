"""The networks of Table 5: sizes, shapes, and what makes each of them what it is.

Transformers were held against timm's once, with the same weights: logits equal to 4e-7 (docs/adr/0008).
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rc_training.blocks import ACTIVATIONS
from rc_training.cait import ClassAttention, TalkingHeadsAttention
from rc_training.models import ARCHITECTURES, FIXED_SIZE, create
from rc_training.swin import PatchMerging, WindowAttention
from rc_training.transformers import Attention, Residual

# Sizes that take a second in place of a minute; the layers are the same.
SMALL: dict[str, dict[str, Any]] = {
    "alexnet": {"hidden": 16},
    "vgg16_bn": {"hidden": 16},
    "vit_tiny": {"dim": 24, "depth": 2},
    "swin_tiny": {"dim": 12, "depths": (2, 2, 2)},
    "cait_xxs": {"dim": 32, "depth": 2},
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alexnet", 56_826_698),
        ("vgg16_bn", 134_309_962),
        # The paper names no figure for these; timm's networks of the same sizes have as many.
        ("vit_tiny", 5_362_762),
        ("swin_tiny", 27_505_300),
        ("cait_xxs", 11_601_610),
    ],
)
def test_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create(name, 10).parameters()) == parameters
        wider = sum(p.numel() for p in create(name, 100).parameters())
    features: dict[str, int] = {"vit_tiny": 192, "swin_tiny": 768, "cait_xxs": 192}
    assert wider == parameters + 90 * (features.get(name, 4096) + 1)


@pytest.mark.parametrize("activation", ["relu", "gelu", "gclu"])
@pytest.mark.parametrize("name", SMALL)
def test_learns_with_every_activation(name: str, activation: str) -> None:
    torch.manual_seed(0)
    network = create(name, 7, activation, **SMALL[name])
    kinds = {kind: type(make()) for kind, make in ACTIVATIONS.items()}
    found = [module for module in network.modules() if isinstance(module, tuple(kinds.values()))]
    assert {type(module) for module in found} == {kinds[activation]}
    logits = network(torch.randn(3, 3, 32, 32))
    assert logits.shape == (3, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()  # type: ignore[no-untyped-call]
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert network.eval()(torch.randn(0, 3, 32, 32)).shape == (0, 7)


@pytest.mark.parametrize(
    ("name", "activations"), [("alexnet", 7), ("vgg16_bn", 15), *zip(FIXED_SIZE, (12, 12, 26), strict=True)]
)
def test_number_of_activations(name: str, activations: int) -> None:
    with torch.device("meta"):
        network = create(name, activation="gelu")
    assert sum(isinstance(module, nn.GELU) for module in network.modules()) == activations


@pytest.mark.parametrize(("name", "size", "features"), [("alexnet", 32, 2), ("vgg16_bn", 32, 1), ("alexnet", 224, 14)])
def test_feature_maps_are_pooled_to_the_classifiers_size(name: str, size: int, features: int) -> None:
    """A smaller map is repeated: each of its pixels fills a square."""
    network: Any = create(name, hidden=8).eval()
    found = network.features(torch.randn(1, 3, size, size))
    assert found.shape == (1, {"alexnet": 256, "vgg16_bn": 512}[name], features, features)
    target = {"alexnet": 6, "vgg16_bn": 7}[name]
    if target % features == 0:
        repeated = found.repeat_interleave(target // features, 2).repeat_interleave(target // features, 3)
        torch.testing.assert_close(network.pool(found), repeated)
    assert network.pool(found).shape[2:] == (target, target)


def heads(x: Tensor, count: int) -> list[Tensor]:
    return list(x.chunk(count, dim=-1))


def attended(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """One head, written out."""
    return (query @ key.T / math.sqrt(query.shape[-1]) + bias).softmax(-1) @ value


def test_attention() -> None:
    torch.manual_seed(0)
    layer, x = Attention(12, 3), torch.randn(2, 5, 12)
    expected = []
    for tokens in x:
        parts = [heads(part, 3) for part in layer.qkv(tokens).chunk(3, dim=-1)]
        expected.append(layer.projection(torch.cat([attended(*head) for head in zip(*parts, strict=True)], -1)))
    torch.testing.assert_close(layer(x), torch.stack(expected))


def test_talking_heads() -> None:
    torch.manual_seed(0)
    layer, x = TalkingHeadsAttention(12, 3), torch.randn(1, 5, 12)
    query, key, value = (heads(part, 3) for part in layer.qkv(x[0]).chunk(3, dim=-1))
    scores = [q @ k.T / 2 for q, k in zip(query, key, strict=True)]  # 2 = sqrt(12 / 3)

    def mixed(maps: list[Tensor], linear: nn.Linear) -> list[Tensor]:
        rows = zip(linear.weight, linear.bias, strict=True)
        return [sum((w * m for w, m in zip(row, maps, strict=True)), bias * torch.ones(5, 5)) for row, bias in rows]

    weights = mixed([score.softmax(-1) for score in mixed(scores, layer.mix_scores)], layer.mix_weights)
    joined = torch.cat([weight @ v for weight, v in zip(weights, value, strict=True)], -1)
    torch.testing.assert_close(layer(x), layer.projection(joined)[None])


def test_class_attention() -> None:
    torch.manual_seed(0)
    layer, x = ClassAttention(12, 3), torch.randn(1, 5, 12)
    parts = [
        heads(linear(tokens), 3) for linear, tokens in ((layer.query, x[0, :1]), (layer.key, x[0]), (layer.value, x[0]))
    ]
    expected = layer.projection(torch.cat([attended(*head) for head in zip(*parts, strict=True)], -1))
    torch.testing.assert_close(layer(x), expected[None])


@pytest.mark.parametrize("shift", [0, 2])
def test_windows(shift: int) -> None:
    """Token by token: which it sees, with which bias. Edges of the map do not wrap around."""
    torch.manual_seed(0)
    size, window = 8, 4
    layer = WindowAttention(4, 1, size, window, shift)
    nn.init.normal_(layer.bias)
    x = torch.randn(1, size, size, 4)
    query, key, value = layer.qkv(x[0]).chunk(3, dim=-1)
    found = layer(x)[0]

    def group(i: int) -> tuple[int, int]:
        # Whole windows, and the half ones that a shift leaves at both edges.
        return ((i - shift) // window if i >= shift else -1, 0)

    for row, column in [(0, 0), (1, 5), (2, 2), (7, 7), (6, 0), (5, 3)]:
        seen = [
            (r, c) for r in range(size) for c in range(size) if group(r) == group(row) and group(c) == group(column)
        ]
        bias = torch.stack(
            [layer.bias[(row - r + window - 1) * (2 * window - 1) + column - c + window - 1, 0] for r, c in seen]
        )
        keys, values = (torch.stack([part[r, c] for r, c in seen]) for part in (key, value))
        expected = layer.projection(attended(query[row, column][None], keys, values, bias)[0])
        torch.testing.assert_close(found[row, column], expected)


def test_swin_stages() -> None:
    """On 32x32 the maps are 8, 4, 2 and 1 wide: windows shift only where the map is larger than one."""
    with torch.device("meta"):
        network: Any = create("swin_tiny")
    layers = [[block.attention for block in stage if hasattr(block, "attention")] for stage in network.stages]
    assert [[(layer.window, layer.shift) for layer in stage] for stage in layers] == [
        [(4, 0), (4, 2)],
        [(4, 0), (4, 0)],
        [(2, 0)] * 6,
        [(1, 0)] * 2,
    ]
    assert [stage[0].heads for stage in layers] == [3, 6, 12, 24]


def test_patch_merging() -> None:
    merging, x = PatchMerging(2), torch.randn(1, 4, 4, 2)
    for row, column in [(0, 0), (1, 0), (0, 1)]:
        # Liu et al.'s order: down first, then right.
        square = [x[0, 2 * row + down, 2 * column + right] for right in (0, 1) for down in (0, 1)]
        expected = merging.reduction(merging.norm(torch.cat(square)))
        torch.testing.assert_close(merging(x)[0, row, column], expected)


def test_stochastic_depth() -> None:
    torch.manual_seed(0)
    layer = Residual(3, drop=0.25, scale=2.0)
    x, branch = torch.zeros(4000, 5, 3), torch.ones(4000, 5, 3)
    found = layer(x, branch)
    # 2 / (1 - 0.25) or nothing, for whole samples; 3000 kept on average, standard deviation 27.
    torch.testing.assert_close(found, (found[:, :1, :1] > 0) * torch.full_like(found, 8 / 3))
    assert abs(int((found[:, 0, 0] > 0).sum()) - 3000) < 6 * 27
    assert torch.equal(layer.eval()(x, branch), 2 * branch)
    with torch.device("meta"):
        rates = [module.drop for module in create("swin_tiny").modules() if isinstance(module, Residual)]
    assert rates[::2] == rates[1::2] == pytest.approx([0.1 * i / 11 for i in range(12)])


@pytest.mark.parametrize("name", FIXED_SIZE)
def test_wrong_image_sizes(name: str) -> None:
    with pytest.raises(ValueError, match="images must be 32x32, not 28x28"):
        create(name, **SMALL[name])(torch.randn(1, 3, 28, 28))
    with pytest.raises(ValueError, match=r"image_size \(30\) must be a multiple of the patches' size, 4"):
        create(name, image_size=30)


def test_networks_of_a_fixed_size_are_those_that_take_one() -> None:
    for name in ARCHITECTURES:
        with torch.device("meta"):
            if name in FIXED_SIZE:
                assert create(name, image_size=64)(torch.empty(1, 3, 64, 64)).shape == (1, 10)
            else:
                with pytest.raises(TypeError, match="image_size"):
                    create(name, image_size=64)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"image_size \(40\) cannot be cut into windows in all 4 stages"):
        create("swin_tiny", image_size=40)
    for name in SMALL:
        with pytest.raises(ValueError, match="activation must be one of"):
            create(name, activation="swish")
        with pytest.raises(ValueError, match="num_classes must be at least 1"):
            create(name, 0)
        with pytest.raises(TypeError, match="reduction"):
            create(name, reduction=4)
