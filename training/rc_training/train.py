"""One training run from its first epoch, or the one after an interruption, to its checkpoint."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from rc_deploy import checkpoint
from rc_deploy.artefacts import Kind
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.outputs import require_outputs
from rc_training.determinism import COST, deterministic
from rc_training.distributed import current, local_device
from rc_training.events import require_tensorboard
from rc_training.keeper import Keeper
from rc_training.options import Existing
from rc_training.progress import Reporter
from rc_training.run import Run
from rc_training.trainer import Splits, Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rc_training.options import RunOptions
    from rc_training.recipe import Recipe


def check(recipe: Recipe, options: RunOptions, inputs: Iterable[Path] = ()) -> bool:
    """Find what would make a run fail at its end, before it starts; return whether it is finished already.

    Args:
        recipe: what it trains.
        options: how; where it writes.
        inputs: files that it reads, and must not write.

    Raises:
        OutputError: the folder or checkpoint cannot be written, or holds what must stay.
        InputError: the folder holds a run that `recipe` cannot go on with.
        MissingDependencyError: TensorBoard is asked for and not installed.
    """
    run = Run(options.folder)
    finished = run.finished(recipe, options.existing)
    if options.output or run.folder.exists():
        require_outputs([(options.checkpoint, Kind.CHECKPOINT)], [*inputs, *run.documents])
    if options.tensorboard:
        require_tensorboard()
    return finished


def train(recipe: Recipe, options: RunOptions, reporter: Reporter | None = None) -> checkpoint.Checkpoint:
    """Train a network and write its checkpoint; the weights are those after the last epoch, not the best one.

    Args:
        recipe: what to train and how.
        options: where, and by which means.
        reporter: hears every few steps and at the end of every epoch where the run stands.

    Returns:
        The checkpoint as written, by this run or, where a finished one is resumed, by that one. Its metrics hold the
        accuracy after the last epoch and the best of all epochs, which is optimistic: the test split chose it.

    Raises:
        OutputError, InputError, MissingDependencyError: as `check` does; found before training starts.
        InputError: the data is missing or damaged, the recipe's options do not fit its network, nothing that was
            saved of an interrupted run is good, or training diverged.
        UnsupportedError: "cuda" without a CUDA device, or something that this device cannot do.
    """
    reporter = reporter or Reporter()
    if check(recipe, options):
        reporter.notice(f"The run in {options.folder} is finished: nothing is left to do.")
        if current().rank == 0:
            Run(options.folder).forget_states()  # it may have been killed right before it did so itself
        return _of_finished(recipe, options)
    place = local_device(resolve_device(options.device))
    with deterministic(options.deterministic):
        if options.deterministic:
            reporter.notice(COST)
        data = Splits.open(recipe.dataset, options.data, place)
        trainer = Trainer(recipe, data, place, options)
        return _run(trainer, options, reporter)


def _run(trainer: Trainer, options: RunOptions, reporter: Reporter) -> checkpoint.Checkpoint:
    """Take a trainer through the epochs that are left; process 0 alone writes."""
    run, processes = Run(options.folder), current()
    writes = processes.rank == 0
    with ExitStack() as stack:
        if writes:
            stack.enter_context(run.held())
            check(trainer.recipe, options)  # once more: while the data was read, another process may have been here
        if options.existing is Existing.RESUME and run.read():
            run.resume(trainer.restore, reporter.notice)
        _require_one_network(trainer)  # which waits until all have read: from here on files change
        keeper = stack.enter_context(Keeper(run, trainer, options)) if writes else None
        while len(trainer.history) < trainer.recipe.epochs:
            progress = trainer.epoch(reporter)
            if keeper:
                keeper.keep()
            reporter.progress(progress)
        trained = trainer.checkpoint()
        if keeper:
            keeper.finish(trained)
        processes.wait()  # for the files to be there
        return trained


def _require_one_network(trainer: Trainer) -> None:
    """Raise InputError where the processes begin with different networks, as if on machines with a disk each."""
    weights = trainer.network.state_dict().values()
    if not current().agree(sum(float(tensor.double().sum()) for tensor in weights)):
        raise InputError(
            f"The processes of this run do not hold the same network: this one has trained {len(trainer.history)} "
            "epochs of it.",
            "Have the run's folder on a disk that all machines share, and the same PyTorch on each.",
        )


def _of_finished(recipe: Recipe, options: RunOptions) -> checkpoint.Checkpoint:
    try:
        found = checkpoint.load(options.checkpoint)
        if differences := recipe.differences(found.recipe):
            raise InputError(f"{options.checkpoint} is of another recipe: {differences}.")
    except InputError as error:
        raise InputError(
            f"The run in {options.folder} is finished, but its checkpoint is not at hand: {error}",
            "Name the checkpoint with --output; or train again: --restart",
        ) from None
    return found


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
