"""What vision transformers are made of, and ViT-Tiny (Table 5); `swin` and `cait` hold the other two.

Shapes: N images, L tokens, D features a token, H heads. Images are square. The chosen activation is that of the
perceptrons. Initial weights are timm's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from rc_training.blocks import ACTIVATIONS
from rc_training.checks import require_known, require_positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

EXPANSION = 4  # hidden features of a perceptron, over its inputs
DEVIATION = 0.02  # standard deviation of initial weights


class PatchEmbedding(nn.Module):
    """Cuts images into patches and maps each to D features.

    Args:
        in_channels: of the images.
        dim: D.
        image_size: height and width of the images, a multiple of `patch_size`.
        patch_size: height and width of a patch.

    Raises:
        ValueError: sizes that do not fit.
    """

    def __init__(self, in_channels: int, dim: int, image_size: int, patch_size: int = 4) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image_size ({image_size}) must be a multiple of the patches' size, {patch_size}")
        self.image_size, self.patch_size = image_size, patch_size
        self.tokens = (image_size // patch_size) ** 2
        self.projection = nn.Conv2d(in_channels, dim, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D, height, width) in patches for images (N, C, image_size, image_size)."""
        if x.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(f"images must be {self.image_size}x{self.image_size}, not {x.shape[2]}x{x.shape[3]}")
        patches: Tensor = self.projection(x)
        return patches


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017): softmax(Q K^T / sqrt(D / H)) V, projected.

    Args:
        dim: D, a multiple of H.
        heads: H.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, L, D) for x (N, L, D)."""
        return self.join(F.scaled_dot_product_attention(*self.split(x)))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, each (*, H, L, D / H), for x (*, L, D)."""
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return query, key, value

    def join(self, x: Tensor) -> Tensor:
        """Return the projection, (*, L, D), of what the heads found, (*, H, L, D / H), side by side."""
        joined: Tensor = self.projection(join_heads(x))
        return joined


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (*, H, L, D / H) for x (*, L, D)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """Return (*, L, D) for x (*, H, L, D / H)."""
    return x.transpose(-3, -2).flatten(-2)


def perceptron(dim: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Return the two Linears of a block with the activation between them."""
    return nn.Sequential(nn.Linear(dim, EXPANSION * dim), activation(), nn.Linear(EXPANSION * dim, dim))


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)).

    Args:
        dim: D.
        attention: takes and returns (*, L, D).
        activation: makes the perceptron's activation.
        epsilon: of the norms.
        drop: probability that a sample does without a residual branch, in training (stochastic depth).
        scale: initial factor of each residual branch, learned per feature (LayerScale); None for no factors.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        activation: Callable[[], nn.Module],
        epsilon: float = 1e-6,
        drop: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=epsilon)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim, eps=epsilon)
        self.perceptron = perceptron(dim, activation)
        self.after1 = Residual(dim, drop, scale)
        self.after2 = Residual(dim, drop, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, L, D) for x (N, L, D)."""
        x = self.after1(x, self.attention(self.norm1(x)))
        result: Tensor = self.after2(x, self.perceptron(self.norm2(x)))
        return result


class Residual(nn.Module):
    """x + scale * branch; in training a sample's branch is left out with probability `drop`, or enlarged by 1/(1-drop).

    Arguments as in `Block`.
    """

    def __init__(self, dim: int, drop: float = 0.0, scale: float | None = None) -> None:
        super().__init__()
        self.drop = drop
        self.scale = None if scale is None else nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Return the sum, of the shape of both."""
        if self.scale is not None:
            branch = self.scale * branch
        if self.training and self.drop:
            kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.drop
            branch = branch * kept / (1 - self.drop)
        return x + branch


def activation_of(num_classes: int, activation: str, in_channels: int, image_size: int) -> Callable[[], nn.Module]:
    """Return what makes one activation, after checking the arguments."""
    require_known("activation", activation, ACTIVATIONS)
    require_positive(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    return ACTIVATIONS[activation]


def initialise_linear(module: nn.Module) -> None:
    """Truncated normal weights and zero biases, where `module` is a Linear."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al., 2021): patches and a class token with learned positions, blocks, a Linear on the token.

    Args:
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`, in place of GELU.
        in_channels: of the images.
        image_size: height and width of the images.
        dim: D.
        depth: blocks.
        heads: H.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        num_classes: int = 10,
        activation: str = "relu",
        in_channels: int = 3,
        image_size: int = 32,
        dim: int = 192,
        depth: int = 12,
        heads: int = 3,
    ) -> None:
        super().__init__()
        act = activation_of(num_classes, activation, in_channels, image_size)
        self.embedding = PatchEmbedding(in_channels, dim, image_size)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 1 + self.embedding.tokens, dim))
        self.blocks = nn.Sequential(*(Block(dim, Attention(dim, heads), act) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.classifier = nn.Linear(dim, num_classes)
        self.apply(initialise_linear)
        nn.init.normal_(self.token, std=1e-6)
        nn.init.trunc_normal_(self.positions, std=DEVIATION)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) for normalised images (N, C, image_size, image_size)."""
        patches = self.embedding(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], dim=1) + self.positions
        logits: Tensor = self.classifier(self.norm(self.blocks(tokens)[:, 0]))
        return logits
