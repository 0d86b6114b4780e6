"""A benchmark from its artefacts' names to its outcome: what can be refused is refused before anything is timed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rc_deploy.bench import baseline, subjects
from rc_deploy.bench.profile import profile
from rc_deploy.bench.records import DEFAULTS, named
from rc_deploy.bench.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rc_deploy.bench.records import Bench, BenchOptions


def bench(
    artefacts: Sequence[str],
    options: BenchOptions = DEFAULTS,
    on_progress: Callable[[str, float], None] = lambda *_: None,
) -> Bench:
    """Measure artefacts side by side, and hold them against a baseline where there is one.

    Args:
        artefacts: at least one, written FILE or FILE@VARIANT; the first is the base of the ratios.
        options: how.
        on_progress: called with what is being measured and the fraction done, 0 to 1.

    Raises:
        InputError: a file cannot be used, the artefacts take different inputs, a batch is too large, or the baseline
            cannot be compared with.
        UnsupportedError: an artefact cannot be run here, or a process of its own ended.
        MissingDependencyError: what an artefact needs to run is not installed.
    """
    chosen = [subjects.parse(text) for text in artefacts]
    old = baseline.read(options.baseline) if options.baseline else None
    if old is not None and options.baseline is not None:
        names = [named(str(subject.path), subject.variant) for subject in chosen]
        baseline.require_comparable(old, options.baseline, names, options)
    outcome = side_by_side(chosen, options, on_progress)
    if old is not None and options.baseline is not None:
        outcome = replace(outcome, comparison=baseline.compare(outcome, old, options.baseline, options.limit))
    if options.profile:
        on_progress("profiling", 1.0)
        profiles = tuple(profile(index, subject, options) for index, subject in enumerate(chosen))
        outcome = replace(outcome, profiles=profiles)
    on_progress("done", 1.0)
    return outcome
