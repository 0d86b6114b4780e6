"""What came out of training, as JSON and in words; accuracies are in percent, each with what it is the accuracy of."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_deploy import machine
from rc_training.seeds import spreads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rc_deploy.checkpoint import Checkpoint

SCHEMA, SCHEMA_VERSION = "rc-deploy/training", 1
SEEDS_SCHEMA, SEEDS_SCHEMA_VERSION = "rc-deploy/training-seeds", 1


def of_run(folder: Path, path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the results of a run as JSON values: its folder, its checkpoint's file, and what is in that."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "machine": machine.facts(),
        "run": str(folder),
        "checkpoint": str(path),
        "architecture": checkpoint.architecture,
        "arguments": checkpoint.arguments,
        "parameters": checkpoint.metrics["parameters"],
        "recipe": checkpoint.recipe,
        "metrics": checkpoint.metrics,
    }


def of_seeds(documents: Sequence[dict[str, Any]], trained: Sequence[Checkpoint]) -> dict[str, Any]:
    """Return the results of runs that differ in their seed, with mean and spread of what they reached."""
    return {
        "schema": SEEDS_SCHEMA,
        "schema_version": SEEDS_SCHEMA_VERSION,
        "machine": machine.facts(),
        "seeds": [checkpoint.recipe["seed"] for checkpoint in trained],
        "runs": list(documents),
        "spread": {key: asdict(spread) for key, spread in spreads(trained).items()},
    }


def lines_of_run(document: dict[str, Any]) -> list[str]:
    """Return what people are told of a run's results."""
    metrics, output = document["metrics"], Path(document["checkpoint"])
    figures = {
        "checkpoint": str(output),
        "architecture": f"{document['architecture']}, {document['recipe']['activation']}",
        "parameters": f"{document['parameters']:,}",
        "test accuracy, last epoch": f"{metrics['test_accuracy_last']:.2f}% (the weights in the checkpoint)",
        "test accuracy, best epoch": f"{metrics['test_accuracy_best']:.2f}% (epoch {metrics['best_epoch']}, which the "
        "test split itself chose: optimistic)",
        "time": f"{metrics['seconds']:.1f} s on {metrics['device']}",
    }
    command = shlex.join(["rc-deploy", "export", str(output), str(output.with_name("model.onnx"))])
    return [*(f"{label:<27}{value}" for label, value in figures.items()), "", f"Next: {command}"]


def lines_of_seeds(document: dict[str, Any]) -> list[str]:
    """Return what people are told of several seeds' results."""
    lines = [
        f"seed {run['recipe']['seed']:<5} last epoch {run['metrics']['test_accuracy_last']:.2f}%  best epoch "
        f"{run['metrics']['test_accuracy_best']:.2f}%  {run['checkpoint']}"
        for run in document["runs"]
    ]
    for label, key in (("last", "test_accuracy_last"), ("best", "test_accuracy_best")):
        spread = document["spread"][key]
        deviation = spread["standard_deviation"]
        said = "" if deviation is None else f", standard deviation {deviation:.2f}"
        lines.append(
            f"test accuracy, {label} epoch: mean {spread['mean']:.2f}%{said}, {spread['minimum']:.2f}% to "
            f"{spread['maximum']:.2f}%, {spread['runs']} seeds ({spread['meaning']})"
        )
    return lines
