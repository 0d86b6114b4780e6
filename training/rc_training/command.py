"""What `rc-deploy train` does with its options: train with a progress bar, then say what came out."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from rc_deploy import machine
from rc_deploy.artefacts import Kind
from rc_deploy.data import files_of
from rc_deploy.files import json_text, write_json
from rc_deploy.outputs import require_json, require_outputs
from rc_training import recipe as recipes
from rc_training.train import train

if TYPE_CHECKING:
    from rc_deploy.checkpoint import Checkpoint
    from rc_training.progress import Progress


SCHEMA, SCHEMA_VERSION = "rc-deploy/training", 1


@dataclass(frozen=True)
class TrainOptions:
    """The command line of `rc-deploy train`.

    Attributes:
        recipe: name of a recipe or path of a .toml file.
        data: folder of the data set.
        overrides: "key=value" each.
        output: checkpoint to write.
        device: "auto", "cpu" or "cuda".
        seed: in place of the recipe's.
        json: file for the results, "-" for standard output, None for neither.
    """

    recipe: str
    data: Path | None
    overrides: tuple[str, ...]
    output: Path
    device: str
    seed: int | None
    json: str | None


def run(options: TrainOptions) -> None:
    """Train as `options` say, with progress on standard error. Raises as `recipe.load` and `train` do."""
    recipe = recipes.load(options.recipe, options.overrides)
    splits = (f"{recipe.dataset}:{split}" for split in ("train", "test"))
    inputs = [recipes.find(options.recipe), *(file for split in splits for file in files_of(split, options.data))]
    require_outputs([(options.output, Kind.CHECKPOINT)], inputs)
    require_json(options.json, [options.output, *inputs])
    console = Console(stderr=True)
    with _Display(console) as display:
        checkpoint = train(recipe, options.data, options.output, options.device, options.seed, display.update)
    document = _document(checkpoint, options.output)
    if options.json == "-":
        sys.stdout.write(json_text(document) + "\n")
    elif options.json is not None:
        write_json(Path(options.json), document)
    # With JSON on standard output the summary for people moves over to standard error.
    _print_summary(console if options.json == "-" else Console(), document, options.output)


class _Display:
    """A line per epoch and, on a terminal, a bar below them."""

    def __init__(self, console: Console) -> None:
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  train {task.fields[accuracy]:.2f}%"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._console = console
        self._task = self._bar.add_task("train", total=None, epoch="1", loss=float("nan"), accuracy=0.0, speed=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, progress: Progress) -> None:
        epoch = f"{progress.epoch}/{progress.epochs}"
        self._bar.update(
            self._task,
            completed=progress.images,
            total=progress.images_total,
            epoch=epoch,
            loss=progress.loss,
            accuracy=progress.train_accuracy,
            speed=progress.images_per_second,
        )
        if (result := progress.result) is not None:
            self._console.print(
                f"epoch {epoch}  loss {result.loss:.4f}  train {result.train_accuracy:.2f}%  "
                f"test {result.test_accuracy:.2f}%  {progress.images_per_second:,.0f} images/s",
                highlight=False,
            )


def _document(checkpoint: Checkpoint, output: Path) -> dict[str, Any]:
    """Return the results as JSON values."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "machine": machine.facts(),
        "checkpoint": str(output),
        "architecture": checkpoint.architecture,
        "arguments": checkpoint.arguments,
        "parameters": checkpoint.metrics["parameters"],
        "recipe": checkpoint.recipe,
        "metrics": checkpoint.metrics,
    }


def _print_summary(console: Console, document: dict[str, Any], output: Path) -> None:
    metrics = document["metrics"]
    lines = {
        "checkpoint": str(output),
        "architecture": f"{document['architecture']}, {document['recipe']['activation']}",
        "parameters": f"{document['parameters']:,}",
        "test accuracy, last epoch": f"{metrics['test_accuracy_last']:.2f}% (the weights in the checkpoint)",
        "test accuracy, best epoch": f"{metrics['test_accuracy_best']:.2f}%",
        "time": f"{metrics['seconds']:.1f} s on {metrics['device']}",
    }
    for label, value in lines.items():
        console.print(f"{label:<27}{value}", markup=False, highlight=False, soft_wrap=True)
    command = shlex.join(["rc-deploy", "export", str(output), str(output.with_name("model.onnx"))])
    console.print(f"\nNext: {command}", markup=False, highlight=False, soft_wrap=True)
