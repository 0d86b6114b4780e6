"""The head of a report: a verdict in words, reservations, and the few facts that people ask for first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy.report import coverage
from rc_deploy.report.words import count, number, percent, setting, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rc_deploy.report.documents import Documents
    from rc_deploy.report.records import Bench, Build, Subject, Training, Validation
    from rc_deploy.verdict import Criterion

Row = tuple[str, str, bool | None]

# With more failures than this the verdict names the first ones; the rest stand in the table below it.
MOST_FAILURES = 2


@dataclass(frozen=True)
class Verdict:
    """What the documents prove: `word` for the eye, `sentences` to read; `passed` is None where they prove nothing."""

    word: str
    sentences: tuple[str, ...]
    passed: bool | None


@dataclass(frozen=True)
class Summary:
    """The head of a report.

    Attributes:
        verdict: over all validations.
        notes: (file, reservation): what else ran than the file that a result is about, and why.
        facts: (label, value, whether it is as it must be; None where nothing is asked of it).
    """

    verdict: Verdict
    notes: tuple[tuple[str, str], ...]
    facts: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Everything as (label, value, ok), verdict first: the table that the command line prints."""
        verdict = (self.verdict.word, " ".join(self.verdict.sentences), self.verdict.passed)
        notes = ((f"Note on {name}", note, None) for name, note in self.notes)
        return (verdict, *notes, *self.facts)


def summarise(documents: Documents) -> Summary:
    """Return the head of the report on `documents`."""
    return Summary(_verdict(documents), tuple(_notes(documents)), tuple(_facts(documents)))


def used(criterion: Criterion) -> float:
    """Return the part of its tolerance that a criterion uses: at most 1 where it is met.

    For a criterion "at least", whose values are percentages, that is the part of the distance from 100 to the bound.
    """
    value, bound = criterion.value, criterion.bound
    if criterion.at_least:
        value, bound = 100 - value, 100 - bound
    if value <= 0:
        return 0.0
    return value / bound if bound > 0 else math.inf


def same_class(validation: Validation) -> str:
    """Return e.g. "100.00% same class on 360 images"."""
    images = count(validation.comparison.images, "image")
    return f"{percent(validation.comparison.agreement)} same class on {images}"


def _verdict(documents: Documents) -> Verdict:
    failed = [item for item in documents.validations if not item.passed]
    broken = [build for build in documents.builds if _recorded_failure(build, documents)]
    if failed or broken:
        sentences = [_failure(item) for item in failed]
        sentences += [f"The manifest of {build.engine.name} records a failed validation." for build in broken]
        hidden = len(sentences) - MOST_FAILURES
        more = (f"{count(hidden, 'more validation')} failed.",) if hidden > 0 else ()
        return Verdict("FAIL", (*sentences[:MOST_FAILURES], *more), False)
    if not documents.validations:
        return Verdict("NOT VALIDATED", tuple(_nothing(documents)), None)
    if unproven := coverage.unproven(documents):
        return Verdict("NOT VALIDATED", tuple(_uncovered(unproven, documents.validations)), None)
    return Verdict("PASS", (*_success(documents.validations), *_on_record(documents)), True)


def _uncovered(builds: tuple[Build, ...], validations: tuple[Validation, ...]) -> Iterator[str]:
    names = ", ".join(f"{build.engine.name} (SHA-256 {build.engine.sha256[:12]}…)" for build in builds)
    yield f"No validation is about {names}: whether it computes what it should is not shown."
    others = dict.fromkeys(item.artefact.name for item in validations)
    passed = "The validation given passed, but is" if len(validations) == 1 else "The validations given passed, but are"
    yield f"{passed} about other files: {', '.join(others)}."


def _on_record(documents: Documents) -> Iterator[str]:
    """Yield what is known of engines from their manifests alone."""
    for build in documents.builds:
        proof = build.proven.validation
        if proof is not None and not coverage.validated(build, documents):
            images = count(proof.images, "image")
            yield f"That {build.engine.name} passed, on {images}, is on record in its manifest only."


def _success(validations: tuple[Validation, ...]) -> Iterator[str]:
    closest = max(validations, key=lambda item: item.comparison.max_error / (item.tolerance.maximum or math.inf))
    evidence = (
        f"largest logit error {number(closest.comparison.max_error, 2)} of the "
        f"{number(closest.tolerance.maximum, 2)} allowed, {same_class(closest)}."
    )
    if len(validations) == 1:
        yield f"The {closest.artefact.title} computes what the {_reference(closest.reference)} computes: {evidence}"
        return
    yield f"All {len(validations)} validations passed: what ran computes what its reference computes."
    yield f"Closest to its bound is the {closest.artefact.title}: {evidence}"


def _failure(validation: Validation) -> str:
    first, *others = (criterion for criterion in validation.criteria if not criterion.passed)
    also = f"; {count(len(others), 'more criterion', 'more criteria')} not met" if others else ""
    artefact, reference = validation.artefact, _reference(validation.reference)
    claim = f"The {artefact.title} {artefact.name} does not compute what the {reference} computes"
    return f"{claim}: {_reason(first)}{also}."


def _reason(criterion: Criterion) -> str:
    value, bound = number(criterion.value), number(criterion.bound)
    if criterion.at_least:
        return f"{criterion.name} is {value}, at least {bound} is required"
    fraction = used(criterion)
    if math.isfinite(fraction):
        return f"{criterion.name} is {value}, {share(fraction)} the {bound} allowed{criterion.place}"
    return f"{criterion.name} is {value}, at most {bound} is allowed{criterion.place}"


def _nothing(documents: Documents) -> Iterator[str]:
    yield "No validation is among the documents: whether anything computes what it should is not shown."
    for build in documents.builds:
        if (proof := build.proven.validation) is not None:
            yield f"The manifest of {build.engine.name} records one on {count(proof.images, 'image')} that passed."


def _recorded_failure(build: Build, documents: Documents) -> bool:
    """Return whether a manifest records a failure, and no validation given is about the same engine."""
    proof = build.proven.validation
    given = {item.artefact.sha256 for item in documents.validations}
    return proof is not None and not proof.passed and build.engine.sha256 not in given


def _reference(subject: Subject) -> str:
    return subject.kind if subject.kind == "checkpoint" else f"{subject.title} {subject.name}"


def _notes(documents: Documents) -> Iterator[tuple[str, str]]:
    noted: dict[tuple[str, str], None] = {}
    for item in documents.validations:
        for subject in (item.artefact, item.reference):
            if subject.note:
                noted[subject.name, subject.note] = None
    for build in documents.builds:
        proof = build.proven.validation
        if proof is not None and proof.note:
            noted[build.engine.name, proof.note] = None
    # Without any validation the verdict says as much of everything.
    for subject in coverage.only_timed(documents) if documents.validations else ():
        noted[subject.name, "It was timed but not validated: no validation is about the file of this SHA-256."] = None
    yield from noted
    references = {item.reference.sha256: item.reference.name for item in documents.validations}
    if len(references) > 1:
        yield "references", f"The validations are against different files: {', '.join(references.values())}."


def _facts(documents: Documents) -> Iterator[Row]:
    for training in documents.trainings:
        yield "Network", network(training), None
    if (accuracy := _accuracy(documents)) is not None:
        yield "Accuracy", accuracy, None
    for build in documents.builds:
        yield f"Precision of {build.engine.name}", *precision(build)
    titles = [item.artefact.title for item in documents.validations]
    for item in documents.validations:
        title = item.artefact.title
        label = title if titles.count(title) == 1 else f"{title} {item.artefact.name}"
        yield f"Parity of the {label}", _parity(item), item.passed
    for bench in documents.benches:
        yield "Speed", speed(bench), None


def _parity(item: Validation) -> str:
    first = item.criteria[0]
    fraction = used(first)
    of = "of what" if fraction <= 1 else "what"
    return f"{first.name} {number(first.value, 2)}, {share(fraction)} {of} is allowed; {same_class(item)}"


def network(training: Training) -> str:
    """Return a network in one line."""
    arguments = (f"{key.replace('_', ' ')} {setting(value)}" for key, value in training.arguments.items())
    return ", ".join((training.architecture, f"{training.parameters:,} parameters", *arguments))


def precision(build: Build) -> tuple[str, bool | None]:
    """Return what precision was asked for and found, and whether all that computes has it."""
    asked, matching, planned = build.precision.asked, build.precision.layers_as_asked, build.precision.planned
    if matching is None:
        return f"{asked} asked for; found {setting(build.precision.found.compute_layers)}", None
    weights = build.precision.found.engine_weight_bytes
    main = max(weights, key=lambda kind: weights[kind], default=None)
    part = 100 * weights[main] / (sum(weights.values()) or 1) if main else 0
    held = f"; {percent(part, 1)} of weight bytes are {main}" if main else ""
    wide = f" and {planned.wide} stay float32" if planned.wide else ""
    text = f"{asked} asked for; {matching} of {planned.narrow} convolutions and matrix products are {asked}{wide}{held}"
    return text, matching == planned.narrow > 0


def _accuracy(documents: Documents) -> str | None:
    groups: dict[str, list[str]] = {}
    for item in documents.validations:
        found, expected = item.comparison.artefact_accuracy, item.comparison.reference_accuracy
        if found is not None and expected is not None:
            place = f"on {count(item.comparison.images, 'image')} of {item.data}"
            group = groups.setdefault(place, [f"{_reference(item.reference)} {percent(expected)}"])
            group.append(f"{item.artefact.title} {percent(found)}")
    if groups:
        return "; ".join(f"{', '.join(dict.fromkeys(parts))}, {place}" for place, parts in groups.items())
    last = (percent(item.metrics.test_accuracy_last) for item in documents.trainings)
    return "; ".join(f"{value} of the test split after training" for value in last) or None


def speed(bench: Bench) -> str:
    """Return the highest throughput of a benchmark in one line."""
    best = max(bench.timings, key=lambda timing: timing.images_per_second)
    subject = bench.artefacts[best.artefact]
    text = f"{best.images_per_second:,.0f} images/s at batch {best.batch}: {subject.name} in {subject.runner}"
    if best.artefact == 0:
        return text
    low, high = best.ratio_interval
    base = bench.artefacts[0]
    return f"{text}; {number(best.ratio)} times as fast as {base.name} ({number(low)} to {number(high)})"
