"""Put the network of a finished run into the package: python benchmarks/keep_weights.py RUN NAME --why "...".

Writes NAME.safetensors and its model card NAME.md, filled in from the run's own record, into rc_deploy/weights.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from string import Template
from typing import Any

from rc_deploy import checkpoint, weights
from rc_deploy.files import sha256, write_bytes
from rc_training import columns
from rc_training.results import Outcome, collect
from rc_training.run import Record, Run


def keep(run: Path, name: str, why: str, folder: Path) -> Path:
    """Write weights and card; return the weights' file.

    Args:
        run: folder of a finished run.
        name: of the weights.
        why: this run of all, in a sentence.
        folder: to write into.

    Raises:
        SystemExit: the run is not finished, or its network is too large.
    """
    found, record = collect([run]).finished, Run(run).read()
    if not found or record is None:
        raise SystemExit(f"{run} is not a finished run.")
    path = folder / f"{name}.safetensors"
    trained = checkpoint.load(Run(run).checkpoint)
    checkpoint.save(trained, path)
    size = path.stat().st_size
    if size >= weights.LARGEST:
        path.unlink()
        raise SystemExit(f"{path.name} has {size:,} bytes; weights in the package take under {weights.LARGEST:,}.")
    card = Template((weights.FOLDER / "CARD.md").read_text(encoding="utf-8"))
    facts = {"name": name, "why": why, "bytes": f"{size:,}", "sha256": sha256(path)}
    facts |= _facts(trained, found[0], record)
    write_bytes(path.with_suffix(".md"), card.substitute(facts).encode())
    return path


def _facts(trained: checkpoint.Checkpoint, found: Outcome, record: Record) -> dict[str, Any]:
    changes = ", ".join(columns.setting(key, change.run) for key, change in found.changes.items())
    metrics, keys, spec = trained.metrics, record.recipe, trained.input
    return {
        "architecture": trained.architecture,
        "activation": keys["activation"],
        "dataset": keys["dataset"],
        "recipe": found.recipe,
        "changes": f"but for {changes}" if changes else "unchanged",
        "epochs": keys["epochs"],
        "seed": record.seed,
        "command": shlex.join(record.command),
        "parameters": f"{record.parameters:,}",
        "last": f"{metrics['test_accuracy_last']:.2f}",
        "best": f"{metrics['test_accuracy_best']:.2f}",
        "best_epoch": metrics["best_epoch"],
        "paper": "none for this" if found.paper is None else f"{columns.accuracy(found.paper)}%",
        "device": ", ".join(found.devices),
        "torch": metrics["torch"],
        "seconds": f"{metrics['seconds']:.0f}",
        "started": record.started,
        "shape": "x".join(map(str, spec.shape)),
        "mean": spec.mean,
        "std": spec.std,
    }


def main() -> None:
    """Keep the network of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help=f"of the weights, e.g. {', '.join(weights.EXPECTED)}")
    parser.add_argument("--why", required=True, help="this run of all, in a sentence")
    options = parser.parse_args()
    print(keep(options.run, options.name, options.why, weights.FOLDER))


if __name__ == "__main__":
    main()
