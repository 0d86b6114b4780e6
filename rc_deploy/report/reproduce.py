"""The commands that make the documents of a report again, as far as the documents tell."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from rc_deploy.decode import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rc_deploy.report.documents import Documents
    from rc_deploy.report.records import Bench, Build, Chain, Training
    from rc_deploy.verdict import Criterion

_WIDTH = 96
# The criteria that `rc-deploy validate` adds on request, and the option that asks for each.
_OPTIONS = {"top-1 agreement (%)": "--min-agreement", "loss of accuracy (points)": "--max-accuracy-drop"}


def commands(documents: Documents) -> tuple[str, ...]:
    """Return one command for each document, in the order in which they are to be run, long ones over several lines."""
    places = _places(documents)
    arguments = [[*_train(item), *_json(documents, item)] for item in documents.trainings]
    arguments += _exports(documents, places)
    arguments += (_build(item, places) for item in documents.builds)
    arguments += ([*_validate(item), *_json(documents, item)] for item in documents.chains)
    arguments += ([*_bench(item), *_json(documents, item)] for item in documents.benches)
    arguments.append(["report", *(_path(clean(str(document.path))) for document in documents.all)])
    return tuple(dict.fromkeys(_wrapped(["rc-deploy", *command]) for command in arguments))


def _places(documents: Documents) -> dict[str, str]:
    """Return where files lay when they were run, by SHA-256; manifests know no more than names."""
    benched = (subject for item in documents.benches for subject in item.artefacts)
    validated = (subject for item in documents.validations for subject in (item.artefact, item.reference))
    return {subject.sha256: subject.path for subject in (*benched, *validated)}


def _json(documents: Documents, record: object) -> list[str]:
    return ["--json", clean(str(documents.file_of(record).path))]


def _train(training: Training) -> list[str]:
    # Every key is given: what was changed with --set is not recorded apart from what the recipe said.
    keys = {key: value for key, value in training.recipe.items() if key != "name"}
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={_toml(value)}")]
    output = ["--output", _path(training.checkpoint)] if training.checkpoint else []
    return ["train", _path(str(training.recipe.get("name", "RECIPE"))), *settings, *output]


def _exports(documents: Documents, places: dict[str, str]) -> Iterator[list[str]]:
    """Yield the exports of the graphs that engines were built from; without engines, of float32 graphs."""
    for build in documents.builds:
        if build.checkpoint_sha256 in places:
            source = places.get(build.source.sha256, build.source.name)
            yield ["export", _path(places[build.checkpoint_sha256]), _path(source)]
    for item in () if documents.builds else documents.validations:
        artefact, reference = item.artefact, item.reference
        if (artefact.kind, artefact.precision, reference.kind) == ("onnx", "fp32", "checkpoint"):
            yield ["export", _path(reference.path), _path(artefact.path)]


def _build(build: Build, places: dict[str, str]) -> list[str]:
    source, engine = (places.get(file.sha256, file.name) for file in (build.source, build.engine))
    precision, measured = build.precision, build.precision.calibration
    options = [f"--{precision.asked}", "--backend", build.backend.get("name", "auto")]
    options += [word for profile in build.batch.split(",") for word in ("--batch", profile)]
    options += [word for name in precision.kept for word in ("--keep-fp32", name)]
    if measured:
        options += ["--calibration", measured.data, "--calibration-images", str(measured.images)]
        options += ["--calibration-method", measured.method]
    return ["build", _path(source), "--output", _path(engine), *options]


def _validate(chain: Chain) -> list[str]:
    first, selection = chain.validations[0], chain.selection
    artefacts = (_path(item.artefact.path) for item in chain.validations)
    # So many images: the same ones, whether the validation was limited or not.
    images = ["--data", selection.data, "--limit", str(first.comparison.images)]
    drawn = [] if selection.limit is None or selection.seed is None else ["--seed", str(selection.seed)]
    return [
        "validate",
        *artefacts,
        "--reference",
        _path(first.reference.path),
        *images,
        *drawn,
        *_asked_for(first.criteria),
        *(["--bisect"] if any(item.layers for item in chain.validations) else []),
    ]


def _asked_for(criteria: Sequence[Criterion]) -> Iterator[str]:
    for criterion in criteria:
        if criterion.name in _OPTIONS:
            yield from (_OPTIONS[criterion.name], f"{criterion.bound:g}")


def _bench(bench: Bench) -> list[str]:
    batches = ",".join(str(batch) for batch in bench.batches)
    method = bench.method
    subjects = (f"{_path(item.path)}@{item.variant}".removesuffix("@") for item in bench.artefacts)
    settings = {
        "--batch": batches,
        "--seconds": f"{method.seconds_per_batch_size:g}",
        "--threads": str(method.threads),
        "--concurrency": str(method.concurrency),
        "--loads": str(method.loads),
    }
    options = [part for option, value in settings.items() for part in (option, value)]
    return ["bench", *subjects, *options, *(["--isolate"] if method.isolated else [])]


def _path(path: str) -> str:
    """Return a path that cannot be taken for an option."""
    return f"./{path}" if path.startswith("-") else path


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps(value)  # texts and numbers: the same in TOML
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrapped(arguments: Sequence[str]) -> str:
    """Return a command quoted for the shell, broken before an option where a line would become too long."""
    lines = [""]
    for index, argument in enumerate(arguments):
        word = shlex.quote(argument)
        option_follows = argument.startswith("--") and index + 1 < len(arguments)
        ahead = len(word) + (1 + len(shlex.quote(arguments[index + 1])) if option_follows else 0)
        previous_is_option = index > 0 and arguments[index - 1].startswith("--")
        if lines[-1].strip() and len(lines[-1]) + 1 + ahead > _WIDTH and not previous_is_option:
            lines.append("    " + word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1].strip() else lines[-1] + word
    return " \\\n".join(lines)
