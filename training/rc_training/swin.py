"""Swin-Tiny (Table 5): a hierarchy of maps of tokens, with attention inside windows (Liu et al., 2021).

Shapes as in `transformers`; S is the height and width of a map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rc_training.transformers import DEVIATION, Attention, Block, PatchEmbedding, activation_of, initialise_linear

FORBIDDEN = -100.0  # added to a score: e^-100 of the weight is left


class WindowAttention(Attention):
    """Attention within windows of a map of tokens, with a learned bias for each relative position (Liu et al., 2021).

    With a shift the map is rolled by it before, and back afterwards, so that these windows straddle those of the block
    before. Tokens that the roll brings together from opposite edges of the map do not see each other.

    Args:
        dim: D.
        heads: H.
        size: height and width of the map, S, a multiple of `window`.
        window: height and width of a window; L = window^2.
        shift: of the windows, along both axes.
    """

    relative: Tensor
    apart: Tensor

    def __init__(self, dim: int, heads: int, size: int, window: int, shift: int) -> None:
        super().__init__(dim, heads)
        self.window, self.shift = window, shift
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=DEVIATION)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        row, column = (place[:, None] - place[None, :] + window - 1).unbind(-1)
        self.register_buffer("relative", row * (2 * window - 1) + column, persistent=False)  # (L, L)
        # Along an axis of the rolled map: tokens of whole windows, and of either part of the window put together.
        part = torch.bucketize(torch.arange(size), torch.tensor([size - window, size - shift]), right=True)
        part = self.windows((3 * part[:, None] + part)[None, :, :, None])  # (1, windows, L, 1)
        apart = torch.where(part != part.transpose(2, 3), FORBIDDEN, 0.0)
        self.register_buffer("apart", apart[0, :, None], persistent=False)  # (windows, 1, L, L)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, S, S, D) for x (N, S, S, D)."""
        bias = self.bias[self.relative].permute(2, 0, 1)  # (H, L, L)
        if self.shift:
            x, bias = x.roll((-self.shift, -self.shift), (1, 2)), bias + self.apart
        query, key, value = self.split(self.windows(x))
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]) + bias  # (N, windows, H, L, L)
        x = self.map(self.join(scores.softmax(dim=-1) @ value))
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x

    def windows(self, x: Tensor) -> Tensor:
        """Return (N, windows, L, D) for x (N, S, S, D)."""
        side = x.shape[1] // self.window
        x = x.reshape(x.shape[0], side, self.window, side, self.window, x.shape[3])
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def map(self, x: Tensor) -> Tensor:
        """Return (N, S, S, D) for x (N, windows, L, D)."""
        side = math.isqrt(x.shape[1])
        x = x.reshape(x.shape[0], side, side, self.window, self.window, x.shape[3])
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class PatchMerging(nn.Module):
    """Makes one token of 2 D features of each 2x2 of D."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, S / 2, S / 2, 2 D) for x (N, S, S, D)."""
        size = x.shape[1] // 2
        x = x.reshape(x.shape[0], size, 2, size, 2, x.shape[3])
        merged: Tensor = self.reduction(self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3)))
        return merged


class SwinTransformer(nn.Module):
    """Swin (Liu et al., 2021): stages of blocks with attention in windows, shifted in every other block.

    Between stages the map halves and the features double. Where the map is no larger than a window, it is the window,
    and nothing is shifted.

    Args:
        num_classes: outputs.
        activation: a name of `ACTIVATIONS`, in place of GELU.
        in_channels: of the images.
        image_size: height and width of the images.
        dim: D of the first stage.
        depths: blocks per stage.
        heads: H of the first stage; it doubles with the features.
        window: height and width of a window.
        drop: stochastic depth of the last block; it rises linearly from 0 at the first.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        num_classes: int = 10,
        activation: str = "relu",
        in_channels: int = 3,
        image_size: int = 32,
        dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: int = 3,
        window: int = 4,
        drop: float = 0.1,
    ) -> None:
        super().__init__()
        act = activation_of(num_classes, activation, in_channels, image_size)
        self.embedding = PatchEmbedding(in_channels, dim, image_size)
        self.embedding_norm = nn.LayerNorm(dim)
        self.stages = nn.Sequential()
        size = image_size // self.embedding.patch_size
        drops = iter(drop * index / max(sum(depths) - 1, 1) for index in range(sum(depths)))
        for index, depth in enumerate(depths):
            stage = nn.Sequential()
            if index:
                stage.append(PatchMerging(dim))
                size, dim, heads = size // 2, 2 * dim, 2 * heads
            side = min(window, size)
            if size * 2**index * self.embedding.patch_size != image_size or size % side:
                raise ValueError(f"image_size ({image_size}) cannot be cut into windows in all {len(depths)} stages")
            for position in range(depth):
                shift = side // 2 if position % 2 and size > side else 0
                attention = WindowAttention(dim, heads, size, side, shift)
                stage.append(Block(dim, attention, act, epsilon=1e-5, drop=next(drops)))
            self.stages.append(stage)
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes)
        self.apply(initialise_linear)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) for normalised images (N, C, image_size, image_size)."""
        tokens = self.embedding_norm(self.embedding(x).permute(0, 2, 3, 1))
        logits: Tensor = self.classifier(self.norm(self.stages(tokens)).mean(dim=(1, 2)))
        return logits
