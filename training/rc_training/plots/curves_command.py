"""What `rc-deploy plot curves` does with its options: read the runs, draw them, say what the picture shows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rc_deploy.artefacts import Kind
from rc_deploy.errors import InputError
from rc_deploy.files import digest, write_bytes
from rc_deploy.outputs import require_json, require_outputs
from rc_training import runs
from rc_training.plots.curve_figure import draw
from rc_training.plots.curves import grouped
from rc_training.plots.outcome import show
from rc_training.plots.picture import encoded, require_format, settings

if TYPE_CHECKING:
    from pathlib import Path

    from rc_training.plots.curves import Group
    from rc_training.runs import FoundRun

SCHEMA, SCHEMA_VERSION = "rc-deploy/curves", 1


@dataclass(frozen=True)
class CurvesOptions:
    """The command line of `rc-deploy plot curves`.

    Attributes:
        places: folders of runs, or folders that hold such.
        output: picture to write.
        error: draw 100% - accuracy.
        json: file for the numbers, "-" for standard output, None for neither.
    """

    places: tuple[Path, ...]
    output: Path
    error: bool
    json: str | None


def draw_curves(options: CurvesOptions) -> None:
    """Draw training curves as `options` say.

    Raises:
        InputError: a place holds no run, a run is damaged, or there is nothing to draw.
        OutputError: the picture cannot be written there.
        MissingDependencyError: Matplotlib is not installed.
    """
    require_format(options.output)
    found = [runs.read(folder) for folder in runs.find(options.places)]
    inputs = [file for run in found for file in run.files]
    require_outputs([(options.output, Kind.PICTURE)], inputs)
    require_json(options.json, [options.output, *inputs])
    started = [run for run in found if run.epochs]
    if not started:
        raise InputError(
            f"None of these runs has finished an epoch yet: {', '.join(str(run.folder) for run in found)}.",
            "Wait for its first line in log.jsonl.",
        )
    groups = grouped(started)
    with settings():
        picture = encoded(draw(groups, error=options.error), options.output)
    write_bytes(options.output, picture)
    notes = [note for run in found for note in run.notes]
    notes += [f"{run.folder} has finished no epoch yet; it is not in the picture." for run in found if not run.epochs]
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "output": str(options.output),
        "sha256": digest(picture),
        "recipes": [_described(group) for group in groups],
        "notes": notes,
    }
    lines = [f"{options.output}: training curves of {len(started)} run{'s' if len(started) > 1 else ''}"]
    show(document, [*lines, *(_sentence(group) for group in groups)], notes, options.json)


def _described(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "runs": [
            {
                "folder": str(run.folder),
                "seed": run.record.seed,
                "status": run.record.status,
                "epochs": len(run.epochs),
                "test_accuracy_last": run.epochs[-1].test_accuracy,
                "test_accuracy_best": _best(run),
            }
            for run in group.runs
        ],
        "epochs": list(group.epochs),
        "runs_with_epoch": list(group.counts),
        "curves": {
            quantity: {name: values.tolist() for name, values in asdict(curve).items()}
            for quantity, curve in group.curves.items()
        },
    }


def _best(run: FoundRun) -> float:
    return max((epoch.test_accuracy for epoch in run.epochs if not math.isnan(epoch.test_accuracy)), default=math.nan)


def _sentence(group: Group) -> str:
    """Return what the finished runs of a recipe reached, and how far the others have come."""
    finished = [run for run in group.runs if run.metrics is not None]
    parts = []
    if finished:
        seeds = ", ".join(str(run.record.seed) for run in finished)
        last = _spread([run.epochs[-1].test_accuracy for run in finished])
        best = _spread([_best(run) for run in finished])
        noun = "seed" if len(finished) == 1 else "seeds"
        parts.append(f"{noun} {seeds}: test accuracy {last} after the last epoch, {best} after the best")
    for run in group.runs:
        if run not in finished:
            where = f"epoch {run.epochs[-1].epoch} of {run.length}"
            parts.append(f"seed {run.record.seed} is at {where}, test accuracy {run.epochs[-1].test_accuracy:.2f}%")
    return f"{group.name}, {'; '.join(parts)}"


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}%"
    return f"{sum(values) / len(values):.2f}% ({min(values):.2f} to {max(values):.2f})"
