"""Training runs of a fraction of a second, and a way to kill them at every step and file operation.

As a program, `python training_runs.py FOLDER`, it trains a run once per operation in a child process that kills
itself there with SIGKILL, resumes each, and prints what came out as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from rc_training import evaluate as evaluation
from rc_training import recipe as recipes
from rc_training import state as states
from rc_training import trainer
from rc_training.datasets import DATASETS
from rc_training.options import Existing, RunOptions
from rc_training.train import train
from rc_training.trainer import Splits, Trainer

RECIPE = replace(
    recipes.load("digits"),
    architecture="resnet8",
    activation="relu",
    augment=("crop", "flip"),
    epochs=3,
    warmup_epochs=1,
    batch_size=48,
)
IMAGES = 96


def small_splits(name: str, folder: Path | None, place: torch.device) -> Splits:
    """Stand in for `Splits.load`: noise in the shape of the digits."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, IMAGES, 1, 8, 8), dtype=torch.uint8, generator=draws)
    labels = torch.randint(10, (2, IMAGES), generator=draws)
    return Splits(DATASETS["digits"].input, (images[0], labels[0]), (images[1], labels[1]))


def options(folder: Path, existing: Existing = Existing.KEEP) -> RunOptions:
    return RunOptions(folder, device="cpu", existing=existing)


def log_of(folder: Path) -> list[dict[str, Any]]:
    """A run's log without what differs from one run to the next."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in ("seconds", "images_per_second")} for line in lines]


def train_until(operation: int, folder: Path) -> None:
    """Train in `folder` until SIGKILL comes: before that step or file operation, or in the middle of a write."""
    counted = 0

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*arguments: Any, **keywords: Any) -> Any:
            nonlocal counted
            counted += 1
            if counted == operation:
                if original is save:
                    arguments[1].write(b"PK\x03\x04 the first half")
                    arguments[1].flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        return operate

    def evaluate(*arguments: Any) -> Any:
        found = evaluation.evaluate(*arguments)
        with trained_file(folder).open("a") as file:
            file.write("an epoch\n")
        return found

    save = torch.save
    places: list[tuple[Any, str]] = [(trainer, "learning_rate"), (torch, "save"), (os, "fsync")]
    places += [(Path, name) for name in ("replace", "unlink", "mkdir")]
    with ExitStack() as stack:
        for place, name in places:
            stack.enter_context(patch.object(place, name, counting(getattr(place, name))))
        stack.enter_context(patch.object(trainer, "evaluate", evaluate))
        train(RECIPE, options(folder))


def trained_file(folder: Path) -> Path:
    """Where a child writes a line for each epoch, before any of it is kept."""
    return folder.with_name(f"{folder.name}.epochs")


def kill_and_resume(operation: int, folder: Path, whole: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return what became of a run that was killed at that operation, and of the one resumed from it."""
    child = os.fork()
    if child == 0:
        train_until(operation, folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    restore, resumed = Trainer.restore, list[int]()

    def noting(self: Trainer, state: states.State) -> None:
        restore(self, state)
        resumed.append(len(self.history))

    with patch.object(Trainer, "restore", noting):
        weights = train(RECIPE, options(folder, Existing.RESUME)).weights
    return {
        "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
        "ended": status == 0,
        "trained": len(trained_file(folder).read_text().splitlines()) if trained_file(folder).exists() else 0,
        "resumed_after": resumed,
        "files": sorted(path.name for path in folder.iterdir()),
        "log": log_of(folder),
        "same_weights": weights.keys() == whole.keys()
        and all(torch.equal(whole[name], weights[name]) for name in whole),
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    outcomes: list[dict[str, Any]] = []
    with patch.object(Splits, "load", small_splits):
        whole = train(RECIPE, options(folder / "whole")).weights
        while not outcomes or not outcomes[-1]["ended"]:
            operation = len(outcomes) + 1
            outcomes.append(kill_and_resume(operation, folder / f"killed{operation}", whole))
    json.dump({"log": log_of(folder / "whole"), "outcomes": outcomes}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
