"""A split of a data set as a training loop takes it: batch by batch, from the device's memory or from files."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import DataLoader

from rc_deploy.data.pictures import bilinear, decode, middle
from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL.Image import Image
    from torch import Tensor

    from rc_deploy.data.pictures import Pictures
    from rc_deploy.specs import InputSpec

TRIES, COLUMNS = 10, 4  # of a random crop, and the random numbers of one
CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def whole(count: int) -> slice:
    """Return the part of a batch that a process has which is alone: all of it."""
    return slice(count)


class Split(Protocol):
    """Labelled images that come in batches."""

    def __len__(self) -> int:
        """Return the number of images."""

    def batches(
        self, order: Tensor, size: int, part: Callable[[int], slice] = whole, seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (n, C, H, W) uint8 and labels (n,) int64, both on the device.

        Args:
            order: places of the images (N,) int64, on the CPU.
            size: of a batch; the last one may be smaller.
            part: takes the number of images in a batch and returns which of them this process has.
            seed: of what is random in reading pictures, the same in every process; None to judge a network.

        Raises:
            InputError: a picture is damaged.
        """


@dataclass(frozen=True)
class InMemory:
    """A split that lies on the device: images (N, C, H, W) uint8 and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self,
        order: Tensor,
        size: int,
        part: Callable[[int], slice] = whole,
        seed: int | None = None,  # noqa: ARG002 (nothing is random here)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches, see `Split`."""
        for batch in torch.split(order.to(self.images.device), size):
            places = batch[part(len(batch))]
            yield self.images[places], self.labels[places]


@dataclass(frozen=True)
class FromFiles:
    """A split of picture files, decoded in worker processes.

    To train on, each is a random part of the picture, brought to the network's size: 8% to 100% of its area, 3:4 to
    4:3 in shape, as ImageNet's networks are usually trained. To judge a network it is the middle
    (`rc_deploy.data.pictures.middle`).

    Attributes:
        pictures: the files and their labels.
        spec: what the network takes.
        device: where batches go.
        workers: processes that decode; 0 for this one.
    """

    pictures: Pictures
    spec: InputSpec
    device: torch.device
    workers: int = 0

    def __len__(self) -> int:
        return len(self.pictures)

    def batches(
        self, order: Tensor, size: int, part: Callable[[int], slice] = whole, seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches, see `Split`."""
        if self.pictures.labels is None:
            raise InputError("The pictures have no labels.", "Have a folder for each class.")
        labels = torch.from_numpy(self.pictures.labels)
        batches = torch.split(order, size)
        parts = [batch[part(len(batch))] for batch in batches]
        loader: DataLoader[Tensor | InputError] = DataLoader(
            _Decoder(self.spec),  # type: ignore[arg-type]
            batch_sampler=_Requests(self.pictures.paths, batches, part, seed),
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context=_start_of_workers() if self.workers else None,
        )
        for places, images in zip(parts, loader, strict=True):
            if isinstance(images, InputError):
                raise images
            yield images.to(self.device, non_blocking=True), labels[places].to(self.device, non_blocking=True)


@dataclass(frozen=True)
class _Requests:
    """What the workers are asked for, batch by batch: a path and the numbers of its crop for each picture.

    All numbers are drawn here, for whole batches: neither the number of workers nor of processes changes them.
    """

    paths: Sequence[str]
    batches: Sequence[Tensor]
    part: Callable[[int], slice]
    seed: int | None

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[str, list[list[float]] | None]]]:
        generator = torch.Generator().manual_seed(self.seed or 0)
        for batch in self.batches:
            own = self.part(len(batch))
            paths = [self.paths[place] for place in batch[own].tolist()]
            if self.seed is None:
                yield [(path, None) for path in paths]
            else:
                numbers = torch.rand(len(batch), TRIES, COLUMNS, generator=generator)[own]
                yield list(zip(paths, numbers.tolist(), strict=True))


@dataclass(frozen=True)
class _Decoder:
    """Decodes what one request asks for: images (n, C, H, W), or the error, which crosses processes as a value."""

    spec: InputSpec

    def __getitems__(self, request: list[tuple[str, list[list[float]] | None]]) -> Tensor | InputError:
        channels, height, width = self.spec.shape

        def cut(image: Image, numbers: list[list[float]] | None) -> Image:
            return middle(image, height, width) if numbers is None else random_part(image, numbers, height, width)

        try:
            images = [decode(path, channels, lambda image, own=own: cut(image, own)) for path, own in request]  # type: ignore[misc]
        except InputError as error:
            return error
        if not images:  # a small batch may leave a process without any
            return torch.empty((0, *self.spec.shape), dtype=torch.uint8)
        return torch.stack([torch.from_numpy(image) for image in images])


def _start_of_workers() -> Any:
    """Return how workers start: from a process without threads or CUDA, which a fork of this one would not survive."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # or each worker of each epoch would import PyTorch
    return context


def _as_it_is(batch: Any) -> Any:
    return batch


def random_part(image: Image, numbers: list[list[float]], height: int, width: int) -> Image:
    """Return a random part of a picture, brought to (height, width).

    Args:
        image: the picture.
        numbers: tries of (area, shape, down, right) in [0, 1); the first that fits into the picture counts.
        height: of the result.
        width: of the result.
    """
    left, top, wide, high = random_box(image.width, image.height, numbers)
    return image.crop((left, top, left + wide, top + high)).resize((width, height), bilinear())


def random_box(width: int, height: int, numbers: list[list[float]]) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of a part of a picture; the middle where no try fits."""
    shortest, longest = (math.log(ratio) for ratio in CROP_RATIO)
    for area, shape, down, right in numbers:
        pixels = width * height * (CROP_AREA[0] + area * (CROP_AREA[1] - CROP_AREA[0]))
        ratio = math.exp(shortest + shape * (longest - shortest))
        wide, high = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(right * (width - wide + 1)), int(down * (height - high + 1)), wide, high
    wide, high = min(width, round(height * CROP_RATIO[1])), min(height, round(width / CROP_RATIO[0]))
    return (width - wide) // 2, (height - high) // 2, wide, high
