"""What process 0 writes while a run goes on, so that it can be stopped at any moment and looked at."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from rc_deploy import checkpoint, machine
from rc_training.distributed import current
from rc_training.events import Events
from rc_training.run import Metrics, Record, Status

if TYPE_CHECKING:
    from rc_training.options import RunOptions
    from rc_training.run import Run
    from rc_training.trainer import Trainer


class Keeper:
    """Keeps a run's folder up to date; a context manager, for as long as the training goes on.

    Args:
        run: the folder, held.
        trainer: what is trained; it has been restored, where the run is resumed.
        options: how the run is carried out.
    """

    def __init__(self, run: Run, trainer: Trainer, options: RunOptions) -> None:
        self._run, self._trainer, self._options = run, trainer, options
        self._stack = ExitStack()
        self._events: Events | None = None
        self._record = _record(run, trainer, options)

    def __enter__(self) -> Self:
        history = self._trainer.history
        self._run.begin(self._record, history)
        if self._options.tensorboard:
            self._events = self._stack.enter_context(Events(self._run.events, after=len(history)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self) -> None:
        """Keep the epoch that the trainer has just finished. Raises OutputError."""
        self._run.save(self._trainer.state())
        if self._events:
            self._events.add(self._trainer.history[-1])

    def finish(self, trained: checkpoint.Checkpoint) -> None:
        """Write the checkpoint, and then that the run is finished. Raises OutputError."""
        checkpoint.save(trained, self._options.checkpoint)
        metrics = Metrics(**{field.name: trained.metrics[field.name] for field in fields(Metrics)})
        self._run.finish(self._record, metrics)


def _record(run: Run, trainer: Trainer, options: RunOptions) -> Record:
    earlier = run.read() if trainer.history else None
    return Record(
        recipe=trainer.recipe.to_json(),
        recipe_name=trainer.recipe.name,
        seed=trainer.recipe.seed,
        status=Status.RUNNING,
        machine=machine.facts(),
        command=earlier.command if earlier else options.command,
        started=earlier.started if earlier else datetime.now(UTC).isoformat(timespec="seconds"),
        processes=current().size,
        parameters=trainer.parameters,
    )
