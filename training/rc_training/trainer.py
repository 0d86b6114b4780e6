"""The network in training: it is taken through one epoch after another, and can be put down and taken up in between.

A data set that fits lives on the device as uint8; augmentation and normalisation run there, a batch at a time.
One seed decides the weights, the order of the images and the augmentations: on a CPU, with the same number of
threads, it gives the same network bit for bit, interrupted or not; on CUDA nearly the same, unless in deterministic
mode.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from statistics import harmonic_mean
from typing import TYPE_CHECKING, Any

import torch

from rc_deploy.checkpoint import Checkpoint
from rc_deploy.errors import InputError, reason
from rc_deploy.runners import default_threads
from rc_training.batches import Batches
from rc_training.datasets import DATASETS
from rc_training.distributed import current
from rc_training.evaluate import evaluate
from rc_training.models import create
from rc_training.optimizer import make_optimizer
from rc_training.progress import EpochResult, Meter, Pace, require_finite
from rc_training.schedule import learning_rate
from rc_training.state import Past, State
from rc_training.step import Step, StepOptions

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from rc_deploy.specs import InputSpec
    from rc_training.options import RunOptions
    from rc_training.progress import Progress, Reporter
    from rc_training.recipe import Recipe
    from rc_training.splits import Split

# Reading the loss makes a CUDA device finish its queue, so it is read every so many steps only.
REPORT_STEPS = 20


@dataclass(frozen=True)
class Splits:
    """A data set that can be trained on: what its networks take, and both splits."""

    input: InputSpec
    train: Split
    test: Split

    @classmethod
    def open(cls, name: str, folder: Path | None, place: torch.device) -> Splits:
        """Read the data set called `name` onto the device, or make ready to stream it. Raises as `Dataset.open`."""
        dataset = DATASETS[name].at(folder)
        workers = default_threads()
        return cls(dataset.input, *(dataset.open(split, folder, place, workers) for split in ("train", "test")))


class Trainer:
    """A network, its optimiser and its place in the training.

    Args:
        recipe: what to train and how.
        data: its data set.
        place: the device.
        options: how its steps are carried out.

    Raises:
        InputError: the recipe's options do not fit its network.
        UnsupportedError: the step cannot be compiled or recorded here.
    """

    def __init__(self, recipe: Recipe, data: Splits, place: torch.device, options: RunOptions) -> None:
        self.recipe, self._data, self._place = recipe, data, place
        torch.manual_seed(recipe.seed)
        self._batches = Batches(data.train, recipe, data.input, torch.Generator().manual_seed(recipe.seed))
        self._arguments: dict[str, Any] = {
            "num_classes": len(data.input.classes),
            "activation": recipe.activation,
            "in_channels": data.input.shape[0],
            **recipe.options,
        }
        self.network = _create(recipe, self._arguments).to(place)
        # channels_last was faster on CPUs in most timings of rescnet8, by up to a quarter; tensor cores want it too.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = make_optimizer(recipe, self.network)
        steps = StepOptions(
            recipe.label_smoothing, recipe.clip_norm, recipe.precision, options.compile, options.cuda_graph
        )
        self._step = Step(self.network, self._optimizer, data.input, steps)
        self.history: tuple[EpochResult, ...] = ()
        self._begin_session(0.0)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def seconds(self) -> float:
        """How long the training took so far, in all sessions."""
        return self._seconds_before + time.perf_counter() - self._start

    def epoch(self, reporter: Reporter) -> Progress:
        """Train for an epoch and evaluate; return where the run stands, with the epoch's result.

        Raises:
            InputError: training diverged; because its cause and remedy are in what was given (the recipe), not in the
                machine.
        """
        self.network.train()
        # Dropout draws from PyTorch's own generator; each process from another stream.
        torch.manual_seed(self._batches.seed() + current().rank)
        epoch, epoch_steps = len(self.history) + 1, self._batches.steps
        meter = Meter(epoch, self.recipe.epochs, self._batches.images, self._pace, self._place)
        for index, batch in enumerate(self._batches.epoch()):
            step = (epoch - 1) * epoch_steps + index
            rate = learning_rate(self.recipe, step, epoch_steps)
            meter.add(self._step(batch, rate), batch.size)
            if (step + 1) % REPORT_STEPS == 0:
                reporter.progress(meter.progress())
        trained = meter.progress()
        tested = evaluate(self.network, self._data.test, self._data.input)
        require_finite(tested.loss, epoch)  # the last step may have been the one too far
        seconds = time.perf_counter() - meter.start
        result = EpochResult(
            epoch,
            trained.loss,
            trained.train_accuracy,
            tested.accuracy,
            tested.loss,
            rate,
            seconds,
            trained.images_per_second,
        )
        self.history += (result,)
        return replace(trained, result=result, seconds_left=self._pace.seconds_left(trained.images))

    def checkpoint(self) -> Checkpoint:
        """Return the trained network as it stands, with what it reached."""
        best = max(self.history, key=lambda result: result.test_accuracy)
        return Checkpoint(
            architecture=self.recipe.architecture,
            arguments=self._arguments,
            input=self._data.input,
            weights={name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()},
            recipe=self.recipe.to_json(),
            metrics={
                "test_accuracy_last": self.history[-1].test_accuracy,
                "test_accuracy_best": best.test_accuracy,
                "best_epoch": best.epoch,
                "epochs": len(self.history),
                "parameters": self.parameters,
                "seconds": self.seconds,
                "images_per_second": harmonic_mean(result.images_per_second for result in self.history),
                "history": [asdict(result) for result in self.history],
                "device": torch.cuda.get_device_name(self._place) if self._place.type == "cuda" else "cpu",
                "torch": str(torch.__version__),
            },
        )

    def state(self) -> State:
        """Return what the training can be taken up from, between two epochs."""
        return State(
            Past(self.recipe.to_json(), self.history, self.seconds),
            self.network.state_dict(),
            self._optimizer.state_dict()["state"],
            self._batches.draws.get_state(),
        )

    def restore(self, state: State) -> None:
        """Take the training up where `state` was made. Raises InputError where it does not fit."""
        past = state.past
        if differences := self.recipe.differences(past.recipe):
            raise InputError(f"The state is of another recipe: {differences}.")
        if [result.epoch for result in past.history] != list(range(1, len(past.history) + 1)):
            raise InputError("The state's epochs are not numbered from 1.")
        # What a group of parameters is trained with is the recipe's and the step's business, not the state's.
        groups = self._optimizer.state_dict()["param_groups"]
        try:
            self.network.load_state_dict(state.network)
            self._optimizer.load_state_dict({"state": state.optimizer, "param_groups": groups})
            self._batches.draws.set_state(state.draws)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"The state does not fit this network or device: {reason(error)}.") from None
        self.history = past.history
        self._begin_session(past.seconds)

    def _begin_session(self, seconds_before: float) -> None:
        self._seconds_before, self._start = seconds_before, time.perf_counter()
        images = self._batches.images
        self._pace = Pace(len(self.history) * images, self.recipe.epochs * images)


def _create(recipe: Recipe, arguments: dict[str, Any]) -> nn.Module:
    try:
        return create(recipe.architecture, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The recipe's options do not fit {recipe.architecture}: {reason(error)}.",
            f"They are {recipe.options}; change one with --set options.NAME=VALUE, or all: --set 'options={{}}'",
        ) from None
