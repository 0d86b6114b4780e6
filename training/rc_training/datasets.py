"""The data sets that recipes name: what a network trained on each takes, and its images as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from rc_deploy import data
from rc_deploy.data import pictures
from rc_deploy.errors import InputError
from rc_deploy.optional import require
from rc_deploy.specs import InputSpec
from rc_training.splits import FromFiles, InMemory

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from rc_training.splits import Split

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())
# Until `Dataset.at` knows their names.
IMAGENET_CLASSES = tuple(str(index) for index in range(pictures.IMAGENET_CLASSES))


@dataclass(frozen=True)
class Dataset:
    """Labelled images with a training and a test split.

    Attributes:
        name: as in the data source "NAME:SPLIT".
        input: what a network trained on it takes; mean and std are those of the training split.
        streamed: whether it is read while training, because no memory holds it.
    """

    name: str
    input: InputSpec
    streamed: bool = False

    def at(self, folder: Path | None) -> Dataset:
        """Return the data set as it is in a data folder: ImageNet's classes bear the names of its folders, the wnids.

        Raises:
            InputError: missing files.
        """
        if not self.streamed:
            return self
        return replace(self, input=replace(self.input, classes=pictures.find_imagenet("val", folder).classes))

    def open(self, split: str, folder: Path | None, device: torch.device, workers: int = 0) -> Split:
        """Return "train" or "test" as batches: on `device`, or decoded by so many worker processes.

        Raises:
            InputError: missing or damaged files.
            MissingDependencyError: the data set needs a package that is not installed.
        """
        if not self.streamed:
            return InMemory(*self.load(split, folder, device))
        found = pictures.find_imagenet("train" if split == "train" else "val", folder)
        require("PIL.Image", "Reading pictures")
        return FromFiles(found.labelled_for(self.input), self.input, device, workers)

    def load(self, split: str, folder: Path | None, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W) uint8 and labels (N,) int64 of "train" or "test", both on `device`.

        Raises:
            InputError: missing or damaged files.
            MissingDependencyError: the data set needs a package that is not installed.
            UnsupportedError: it does not fit into memory; `open` reads it while training.
        """
        source = f"{self.name}:{split}"
        found = data.load(source, folder, self.input)
        if found.labels is None:
            raise InputError(f"{source} has no labels.", "Train on a labelled data set.")
        return torch.from_numpy(found.images).to(device), torch.from_numpy(found.labels).to(device)


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("digits", InputSpec((1, 8, 8), (0.3054,), (0.3753,), tuple("0123456789"))),
        Dataset(
            "cifar10",
            InputSpec((3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), CIFAR10_CLASSES),
        ),
        Dataset(
            "cifar100",
            InputSpec((3, 32, 32), (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762), CIFAR100_CLASSES),
        ),
        Dataset(
            "svhn",
            InputSpec(
                (3, 32, 32),
                (109.9 / 255, 109.7 / 255, 113.8 / 255),
                (50.1 / 255, 50.6 / 255, 50.8 / 255),
                tuple("0123456789"),
            ),
        ),
        Dataset(
            "imagenet",
            InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), IMAGENET_CLASSES),
            streamed=True,
        ),
    )
}


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Return (pixels / 255 - mean) / std per channel, float32; bit for bit `rc_deploy.data.normalise`.

    Args:
        images: (N, C, H, W) of pixel values 0 to 255, uint8 or float.
        spec: what the network takes.
    """
    return Normalisation(spec, images.device)(images)


class Normalisation:
    """`normalise` with its constants on the device, for where nothing may be copied there (a CUDA graph)."""

    def __init__(self, spec: InputSpec, device: torch.device) -> None:
        self._mean = torch.tensor(spec.mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(-1, 1, 1)
        # A tensor, not a number: CUDA multiplies by the reciprocal of a number, which rounds differently.
        self._largest = torch.tensor(255.0, device=device)

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) of pixel values 0 to 255 as `normalise` does."""
        return (images.float() / self._largest - self._mean) / self._std
