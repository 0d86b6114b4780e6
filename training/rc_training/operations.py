"""AutoAugment's operations on whole batches, with a magnitude for each image; each equals Pillow's, pixel for pixel.

They take images (N, C, H, W) uint8 on any device, C = 1 or 3, and magnitudes (N,) float64 on the CPU, and come in
three families: a geometric one looks its pixels up elsewhere in the image, a blend goes from a duller image to the
image and beyond, a table gives each pixel value another.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

FIXED = 65536  # Pillow's geometry is in fixed point, 16 bits before and 16 after the point


def transform(images: Tensor, matrices: Tensor) -> Tensor:
    """Return images whose pixel (x, y) is that at (a x + b y + c, d x + e y + f), black from outside.

    Args:
        images: (N, C, H, W).
        matrices: (a, b, c, d, e, f) of each image (N, 6) float64, for the centres of pixels, as Pillow's
            Image.transform takes them; the nearest pixel is taken.
    """
    count, channels, height, width = images.shape
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    step = [(value * FIXED + 0.5).floor().long() for value in (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)]
    a, b, c, d, e, f = (value.to(images.device) for value in step)
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    x, y = (a * column + b * row + c) >> 16, (d * column + e * row + f) >> 16
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    places = torch.where(inside, y * width + x, 0).view(count, 1, -1).expand(-1, channels, -1)
    found = images.view(count, channels, -1).gather(2, places).view_as(images)
    return torch.where(inside[:, None], found, 0)


def shear_y(images: Tensor, slopes: Tensor) -> Tensor:
    """Move each column by `slopes` times its distance from the left edge."""
    return transform(images, _matrices(slopes, d=slopes))


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Move to the left by so many whole pixels."""
    return transform(images, _matrices(pixels, c=pixels))


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Move up by so many whole pixels."""
    return transform(images, _matrices(pixels, f=pixels))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise about the centre."""
    height, width = images.shape[2:]
    angle = -degrees * math.pi / 180
    cos, sin = angle.cos(), angle.sin()
    x, y = width / 2, height / 2
    return transform(images, torch.stack([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y], dim=1))


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(torch.zeros_like(images), images, factors)


def color(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the grey image."""
    return _blend(_grey(images), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the mean of the grey image, rounded."""
    grey = _grey(images).flatten(1)
    mean = (grey.sum(1, dtype=torch.float64) / grey.shape[1] + 0.5).long()
    return _blend(mean[:, None, None, None].to(torch.uint8), images, factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the image smoothed by (1 1 1; 1 5 1; 1 1 1) / 13; its edge stays as it is."""
    height, width = images.shape[2:]
    if min(height, width) < 3:
        return images
    wide = images.int()
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[:, :, 1:-1, 1:-1]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = ((2 * total + 13) // 26).to(torch.uint8)  # total / 13, rounded
    return _blend(smooth, images, factors)


def invert(images: Tensor, _: Tensor) -> Tensor:
    """Return the negative."""
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep only the highest bits, 1 to 8, of each value."""
    masks = (256 - 2 ** (8 - bits)).to(images.device, torch.uint8)
    return images & masks[:, None, None, None]


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert values that are not below the threshold."""
    return torch.where(images < thresholds.to(images.device)[:, None, None, None], images, 255 - images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel, so that its darkest value becomes 0 and its brightest 255."""
    pixels = images.flatten(2)
    low, high = pixels.amin(2, keepdim=True).double(), pixels.amax(2, keepdim=True).double()
    # Not 255 / ..., which multiplies by the reciprocal and rounds differently.
    scale = torch.full_like(low, 255) / (high - low)
    values = torch.arange(256, device=images.device)
    table = (values * scale - low * scale).clamp(0, 255)
    return _look_up(images, torch.where(high > low, table, values))


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Spread the values of each channel, so that about as many pixels have each."""
    count, channels = images.shape[:2]
    pixels = images.flatten(2)
    first = 256 * torch.arange(count * channels, device=images.device).view(count, channels, 1)
    histogram = torch.bincount((pixels + first).flatten(), minlength=256 * count * channels).view(count, channels, 256)
    last = histogram.gather(2, pixels.amax(2, keepdim=True).long())
    step = (pixels.shape[2] - last) // 255
    before = histogram.cumsum(2) - histogram
    table = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return _look_up(images, torch.where(step > 0, table, torch.arange(256, device=images.device)))


def _matrices(like: Tensor, **changed: Tensor) -> Tensor:
    """Return the identity (1, 0, 0, 0, 1, 0) for each image, with some of its entries a to f changed."""
    identity = {name: torch.full_like(like, float(name in "ae")) for name in "abcdef"}
    return torch.stack(list((identity | changed).values()), dim=1)


def _grey(images: Tensor) -> Tensor:
    """Return luminance (N, 1, H, W) uint8, rounded, with Pillow's integer weights."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32, device=images.device).view(3, 1, 1)
    return (((images * weights).sum(1, keepdim=True, dtype=torch.int32) + 0x8000) >> 16).to(torch.uint8)


def _blend(dull: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Return dull + factor (image - dull), cut to 0 to 255 and rounded down."""
    factor = factors.to(images.device, torch.float32)[:, None, None, None]
    return (dull + factor * (images.float() - dull)).clamp(0, 255).to(torch.uint8)


def _look_up(images: Tensor, table: Tensor) -> Tensor:
    """Return table (N, C, 256) at each pixel's value, rounded down."""
    return table.to(torch.uint8).gather(2, images.flatten(2).long()).view_as(images)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    operation.__name__: operation
    for operation in (
        shear_y, translate_x, translate_y, rotate, brightness, color, contrast, sharpness, invert, posterize, solarize,
        autocontrast, equalize,
    )
}  # fmt: skip
