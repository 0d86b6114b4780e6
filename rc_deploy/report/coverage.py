"""Which of the files that a report is about were held against a reference, told by their SHA-256, never by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rc_deploy.report.documents import Documents
    from rc_deploy.report.records import Build, Subject, Validation


def is_about(validation: Validation, build: Build) -> bool:
    """Return whether a validation is about an engine: itself, or the graph that it was compiled from."""
    same_file = validation.artefact.sha256 in (build.engine.sha256, build.typed_onnx.sha256)
    return same_file and validation.artefact.precision == build.precision.asked


def validated(build: Build, documents: Documents) -> bool:
    """Return whether a validation among the documents is about an engine, and passed."""
    return any(item.passed and is_about(item, build) for item in documents.validations)


def proven(build: Build) -> bool:
    """Return whether an engine's own manifest records a validation that passed."""
    return build.proven.validation is not None and build.proven.validation.passed


def unproven(documents: Documents) -> tuple[Build, ...]:
    """Return the builds whose engine nothing in the documents vouches for."""
    return tuple(build for build in documents.builds if not validated(build, documents) and not proven(build))


def only_timed(documents: Documents) -> Iterator[Subject]:
    """Yield, once each, the artefacts of benchmarks that no validation is about and that are nobody's reference."""
    known = {subject.sha256 for item in documents.validations for subject in (item.artefact, item.reference)}
    for build in documents.builds:
        if validated(build, documents) or proven(build):
            known |= {build.engine.sha256, build.typed_onnx.sha256}
    for bench in documents.benches:
        for subject in bench.artefacts:
            if subject.sha256 not in known:
                known.add(subject.sha256)
                yield subject
