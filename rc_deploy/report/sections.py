"""The sections of a report: each from its records to what its template shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rc_deploy.report import charts, parity, svg
from rc_deploy.report.records import Build
from rc_deploy.report.reproduce import commands
from rc_deploy.report.summary import network, precision
from rc_deploy.report.words import count, moment, number, percent, seconds, setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rc_deploy.report.documents import Document, Documents
    from rc_deploy.report.records import Bench, Machine, Training

Facts = list[tuple[str, str]]

# From this ratio of the 90th percentile to the median on, a reader is warned.
SCATTERED = 1.5


@dataclass(frozen=True)
class Section:
    """One section: `name` of its template and anchor, `title`, and what the template finds under `name`."""

    name: str
    title: str
    content: Any


def sections(documents: Documents) -> tuple[Section, ...]:
    """Return the sections that the documents have something for, in order. Raises MissingDependencyError."""
    found = []
    if documents.trainings:
        runs = [_training(run, f"training-{index}") for index, run in enumerate(documents.trainings)]
        found.append(Section("training", "Training", runs))
    if documents.validations:
        found += _validated(documents)
    if documents.builds:
        found.append(Section("build", "Build", [_build(build) for build in documents.builds]))
    if documents.benches:
        runs = [_speed(bench, f"speed-{index}") for index, bench in enumerate(documents.benches)]
        found.append(Section("speed", "Speed", runs))
    found.append(Section("machine", "Machine and versions", _machines(documents)))
    found.append(Section("reproduce", "How to reproduce", commands(documents)))
    return tuple(found)


def _validated(documents: Documents) -> Iterator[Section]:
    """Yield what the validations give: always the parity, the others where they looked for them."""
    yield Section("parity", "Parity", parity.parity(documents))
    if flipped := parity.flipped(documents):
        yield Section("flips", "Images that changed class", flipped)
    if layers := parity.layers(documents):
        yield Section("layers", "Layer by layer", layers)
    if responses := parity.responses(documents):
        yield Section("responses", "Response calibration", responses)


def _training(run: Training, identifier: str) -> dict[str, Any]:
    metrics = run.metrics
    results = [
        ("Test accuracy, last epoch", percent(metrics.test_accuracy_last)),
        ("Test accuracy, best epoch", percent(metrics.test_accuracy_best)),
        ("Epochs", f"{metrics.epochs:,}"),
        ("Time", seconds(metrics.seconds)),
        ("Speed", f"{number(metrics.images_per_second)} images/s"),
        ("Device", metrics.device),
        ("Checkpoint", run.checkpoint),
    ]
    recipe = [(key.replace("_", " ").capitalize(), setting(value)) for key, value in run.recipe.items()]
    return {
        "record": run,
        "network": network(run),
        "accuracy": charts.accuracy_chart(run, f"{identifier}-accuracy") if metrics.history else "",
        "loss": charts.loss_chart(run, f"{identifier}-loss") if metrics.history else "",
        "results": [(label, value) for label, value in results if value],
        "recipe": recipe,
    }


def _build(build: Build) -> dict[str, Any]:
    found = build.precision.found
    columns = (found.compute_layers, found.other_layers, found.engine_tensors, found.engine_weight_bytes)
    lowered = [{name.lower(): amount for name, amount in column.items()} for column in columns]
    names = dict.fromkeys(name for column in lowered for name in column)
    files = [("Engine", build.engine), ("Typed graph, compiled", build.typed_onnx), ("Source graph", build.source)]
    return {
        "record": build,
        "facts": list(_built(build)),
        "types": [(name, [column.get(name, 0) for column in lowered]) for name in names],
        "files": [
            *((label, file.name, file.sha256) for label, file in files),
            ("Checkpoint", "", build.checkpoint_sha256),
            *(("Plugin", plugin.name, plugin.sha256) for plugin in build.plugins),
        ],
    }


def _built(build: Build) -> Iterator[tuple[str, str]]:
    yield "Precision", precision(build)[0]
    yield "Backend", " ".join(build.backend.values())
    yield "Runs on", f"compute capability {', '.join(build.compute_capabilities) or 'not known'}"
    yield "Batch sizes", _batches(build.batch)
    yield "Built", f"{moment(build.created)} by rc-deploy {build.rc_deploy}, in {seconds(build.seconds)}"
    yield "Plugins needed", ", ".join(plugin.name for plugin in build.plugins) or "none"
    if (proof := build.proven.validation) is not None:
        outcome = f"{'pass' if proof.passed else 'FAIL'}: {count(proof.images, 'image')} of {proof.data}"
        agreement = f"largest logit error {number(proof.max_error)}, {percent(proof.agreement)} same class"
        yield "Validation on record", f"{outcome} in {proof.executed}, {agreement}"


def _batches(text: str) -> str:
    profiles = [profile.split(":") for profile in text.split(",")]
    return "; ".join(
        f"{parts[0]} to {parts[2]}, fastest at {parts[1]}" if len(parts) == 3 else ":".join(parts) for parts in profiles
    )


def _speed(bench: Bench, identifier: str) -> dict[str, Any]:
    return {
        "record": bench,
        "method": _method(bench),
        "scatter": _scatter(bench),
        "legend": [
            (
                charts.MARKERS[index % len(charts.MARKERS)][1],
                svg.SERIES[index % len(svg.SERIES)].variable,
                f"{subject.name}: {subject.precision} in {subject.runner}",
            )
            for index, subject in enumerate(bench.artefacts)
        ],
        "latency": charts.latency_chart(bench, f"{identifier}-latency"),
        "throughput": charts.throughput_chart(bench, f"{identifier}-throughput"),
        "groups": [(batch, [timing for timing in bench.timings if timing.batch == batch]) for batch in bench.batches],
    }


def _method(bench: Bench) -> str:
    method = bench.method
    return (
        f"Order: {method.order}, so that what disturbs meets all alike. A turn: {method.turn}. "
        f"Timed is the {method.clock}. Warm-up, not counted: {method.warm_up}. "
        f"Each batch size was given {seconds(method.seconds_per_batch_size)} for all artefacts together, "
        f"over {count(method.loads, 'load')} of each. Intervals: {method.interval}."
    )


def _scatter(bench: Bench) -> str:
    """Return a warning where times scattered; the load average says why, more often than not."""
    worst = max(bench.timings, key=lambda timing: timing.p90 / timing.p50)
    if worst.p90 / worst.p50 < SCATTERED:
        return ""
    times = number(worst.p90 / worst.p50, 2)
    where = f"{bench.artefacts[worst.artefact].name} at batch {worst.batch}"
    load = f"{number(bench.machine.load_average, 2)} on {count(bench.machine.usable_cores, 'core')}"
    return (
        f"Times scattered: the slowest tenth of the runs of {where} took at least {times} times the median. "
        f"The load average was {load}, the benchmark itself included. Measure on a quiet machine before "
        f"relying on these figures."
    )


def _machines(documents: Documents) -> dict[str, Any]:
    """Return each machine once, whatever the number of documents from it."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for document in documents.all:
        if (machine := getattr(document.record, "machine", None)) is not None:
            groups.setdefault(tuple(_facts(machine)), []).append(document.name)
    several = len(groups) > 1
    return {
        "groups": [
            {"facts": facts, "caption": f"Machine of {', '.join(names)}" if several else ""}
            for facts, names in groups.items()
        ],
        "documents": [_listed(document) for document in documents.all],
    }


def _facts(machine: Machine) -> Iterator[tuple[str, str]]:
    gpus = (f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in machine.gpus)
    yield "Processor", f"{machine.cpu}, {count(machine.usable_cores, 'usable core')}"
    yield "GPU", ", ".join(gpus) or "none"
    yield "CUDA driver", machine.cuda_driver or "none"
    yield "System", machine.system
    yield "Python", machine.python
    yield "rc-deploy", machine.rc_deploy
    yield "Packages", ", ".join(f"{name} {version}" for name, version in machine.packages.items()) or "none"


def _listed(document: Document) -> dict[str, str]:
    record = document.record
    machine = None if isinstance(record, Build) else record.machine
    return {
        "name": document.name,
        "kind": document.kind.title,
        "created": record.created if machine is None else machine.created,
        "load": "" if machine is None else number(machine.load_average, 2),
        "sha256": document.sha256,
    }
