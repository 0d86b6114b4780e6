"""CaiT-XXS (Table 5): attention with talking heads, and a class token that joins late (Touvron et al., 2021).

Shapes as in `transformers`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from rc_training.transformers import (
    DEVIATION,
    Attention,
    Block,
    PatchEmbedding,
    activation_of,
    initialise_linear,
    join_heads,
    split_heads,
)

if TYPE_CHECKING:
    from torch import Tensor


class TalkingHeadsAttention(Attention):
    """Attention whose heads are mixed by Linears before and after the softmax (Shazeer et al., 2020)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.mix_scores = nn.Linear(heads, heads)
        self.mix_weights = nn.Linear(heads, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, L, D) for x (N, L, D)."""
        query, key, value = self.split(x)
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (N, H, L, L)
        weights = self.mix_scores(scores.movedim(-3, -1)).softmax(dim=-2)  # (N, L, L, H); over the keys
        return self.join(self.mix_weights(weights).movedim(-1, -3) @ value)


class ClassAttention(nn.Module):
    """Attention of the class token, the first, to all tokens (Touvron et al., 2021)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.projection = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 1, D) for x (N, 1 + L, D)."""
        query, key, value = self.query(x[:, :1]), self.key(x), self.value(x)
        query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
        attended: Tensor = self.projection(join_heads(F.scaled_dot_product_attention(query, key, value)))
        return attended


class ClassBlock(Block):
    """A block that changes the class token, the first, alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 1 + L, D) for x (N, 1 + L, D)."""
        token, patches = x[:, :1], x[:, 1:]
        token = self.after1(token, self.attention(self.norm1(x)))
        token = self.after2(token, self.perceptron(self.norm2(token)))
        return torch.cat([token, patches], dim=1)


class CaiT(nn.Module):
    """CaiT (Touvron et al., 2021): blocks on the patches alone, then two in which a class token attends to them.

    Args:
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`, in place of GELU.
        in_channels: of the images.
        image_size: height and width of the images.
        dim: D.
        depth: blocks on the patches.
        heads: H.
        class_depth: blocks with the class token.
        scale: initial factor of every residual branch (LayerScale).

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
        depth: int = 24,
        heads: int = 4,
        class_depth: int = 2,
        scale: float = 1e-5,
    ) -> None:
        super().__init__()
        act = activation_of(num_classes, activation, in_channels, image_size)
        self.embedding = PatchEmbedding(in_channels, dim, image_size)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, self.embedding.tokens, dim))
        self.blocks = nn.Sequential(
            *(Block(dim, TalkingHeadsAttention(dim, heads), act, scale=scale) for _ in range(depth))
        )
        self.class_blocks = nn.Sequential(
            *(ClassBlock(dim, ClassAttention(dim, heads), act, scale=scale) for _ in range(class_depth))
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.classifier = nn.Linear(dim, num_classes)
        self.apply(initialise_linear)
        for parameter in (self.token, self.positions):
            nn.init.trunc_normal_(parameter, std=DEVIATION)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) for normalised images (N, C, image_size, image_size)."""
        patches = self.blocks(self.embedding(x).flatten(2).transpose(1, 2) + self.positions)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], dim=1)
        logits: Tensor = self.classifier(self.norm(self.class_blocks(tokens)[:, 0]))
        return logits
