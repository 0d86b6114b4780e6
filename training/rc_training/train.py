"""The training loop, for the CPU and for one CUDA device.

The whole data set lives on the device as uint8; augmentation and normalisation run there, a batch at a time.
One seed decides the weights, the order of the images and the augmentations: on a CPU, with the same number of
threads, it gives the same network bit for bit; on CUDA nearly the same.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from rc_deploy import checkpoint
from rc_deploy.artefacts import Kind
from rc_deploy.errors import UnsupportedError
from rc_deploy.outputs import require_outputs
from rc_training.augment import draw, prepare
from rc_training.datasets import DATASETS, normalise
from rc_training.models import create
from rc_training.progress import EpochResult, Meter, Progress
from rc_training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from rc_deploy.specs import InputSpec
    from rc_training.recipe import Recipe

# Reading the loss makes a CUDA device finish its queue, so it is read every so many steps only.
REPORT_STEPS = 20
EVALUATION_BATCH = 1000


def train(
    recipe: Recipe,
    data_dir: Path | None,
    output: Path,
    device: str = "auto",
    seed: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> checkpoint.Checkpoint:
    """Train a network and write its checkpoint; the weights are those after the last epoch, not the best one.

    Args:
        recipe: what to train and how.
        data_dir: folder of the data set, for those that do not come with a package.
        output: checkpoint to write; an earlier file there stays until the new one is complete.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        seed: in place of the recipe's.
        on_progress: called every `REPORT_STEPS` steps and, with the result, at the end of every epoch.

    Returns:
        The checkpoint as written. Its metrics hold the accuracy after the last epoch and the best of all
        epochs, which is optimistic: the test split chose it.

    Raises:
        OutputError: `output` cannot be written or is another kind of artefact; found before training starts.
        InputError: the data is missing or damaged, or training diverged; divergence, because its cause and
            remedy are in what was given (the recipe), not in the machine.
        UnsupportedError: "cuda" without a CUDA device.
    """
    start = time.perf_counter()
    require_outputs([(output, Kind.CHECKPOINT)], [])
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    place = resolve_device(device)
    dataset = DATASETS[recipe.dataset]
    images, labels = dataset.load("train", data_dir, place)
    test_images, test_labels = dataset.load("test", data_dir, place)

    torch.manual_seed(recipe.seed)
    draws = torch.Generator().manual_seed(recipe.seed)
    arguments: dict[str, Any] = {
        "num_classes": len(dataset.input.classes),
        "activation": recipe.activation,
        "in_channels": dataset.input.shape[0],
    }
    # channels_last was faster on CPUs in most timings of rescnet8, by up to a quarter; tensor cores want it too.
    network = create(recipe.architecture, **arguments).to(place)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), momentum=recipe.momentum, weight_decay=recipe.weight_decay)

    epoch_steps = -(-len(images) // recipe.batch_size)
    step = 0
    history: list[EpochResult] = []
    speeds: list[float] = []
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        order = torch.randperm(len(images), generator=draws)
        meter = Meter(epoch, recipe.epochs, len(images), place)
        for batch in torch.split(order.to(place), recipe.batch_size):
            rate = learning_rate(
                step, recipe.epochs * epoch_steps, recipe.warmup_epochs * epoch_steps, recipe.learning_rate
            )
            optimizer.param_groups[0]["lr"] = rate
            numbers = draw(recipe.augment, len(batch), draws)
            logits = network(prepare(images[batch], recipe.augment, numbers, dataset.input))
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            meter.add(loss, logits, labels[batch])
            step += 1
            if step % REPORT_STEPS == 0:
                on_progress(meter.progress())
        trained = meter.progress()
        speeds.append(trained.images_per_second)
        accuracy = evaluate(network, test_images, test_labels, dataset.input)
        seconds = time.perf_counter() - meter.start
        history.append(EpochResult(epoch, trained.loss, trained.train_accuracy, accuracy, rate, seconds))
        on_progress(replace(trained, result=history[-1]))

    trained_network = checkpoint.Checkpoint(
        architecture=recipe.architecture,
        arguments=arguments,
        input=dataset.input,
        weights={name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()},
        recipe=recipe.to_json(),
        metrics={
            "test_accuracy_last": history[-1].test_accuracy,
            "test_accuracy_best": max(result.test_accuracy for result in history),
            "epochs": recipe.epochs,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "seconds": time.perf_counter() - start,
            "images_per_second": len(speeds) / sum(1 / speed for speed in speeds),
            "history": [asdict(result) for result in history],
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
            "torch": str(torch.__version__),
        },
    )
    checkpoint.save(trained_network, output)
    return trained_network


@torch.inference_mode()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor, spec: InputSpec) -> float:
    """Return the accuracy in percent on images (N, C, H, W) uint8, labels (N,); leaves eval mode on."""
    network.eval()
    correct = sum(
        (network(normalise(part, spec)).argmax(1) == truth).sum()
        for part, truth in zip(
            torch.split(images, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True
        )
    )
    return 100 * int(correct) / len(labels)


def resolve_device(name: str) -> torch.device:
    """Return the device called "auto", "cpu" or "cuda". Raises UnsupportedError where CUDA is not usable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(
            "There is no CUDA device that this PyTorch can use.",
            "Train with --device cpu, or see `rc-deploy doctor`.",
        )
    return torch.device(name)
