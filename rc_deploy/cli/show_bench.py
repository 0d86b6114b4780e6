"""How a benchmark looks in a terminal: times, what it costs to begin, where the time goes, what changed, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rc_deploy.bench.baseline import Verdict
from rc_deploy.cli.show import as_json, facts_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rc_deploy.bench import Bench, Timing
    from rc_deploy.bench.baseline import Comparison
    from rc_deploy.bench.profile import Profile

# Layers of a profile that are shown, the longest; --json has them all.
MOST_LAYERS = 15
_VERDICTS = {Verdict.SLOWER: "bold red", Verdict.UNDECIDED: "yellow", Verdict.HOLDS: "green"}


def benched(outcome: Bench, document: dict[str, Any], json_to: str | None) -> None:
    """Show all that a benchmark found; `document` says it as JSON."""
    if as_json(document, json_to):
        return
    _print(_times(outcome))
    if any(timing.device for timing in outcome.timings):
        _print(_device(outcome))
    _print(_startups(outcome))
    for profile in outcome.profiles:
        _print(_profile(outcome, profile))
    if outcome.comparison:
        _print(_changes(outcome, outcome.comparison))
    facts_table("Run by", {artefact.name: artefact.runner for artefact in outcome.artefacts})
    method = outcome.method
    words = {
        "order": method.order,
        "a turn": method.turn,
        "warm-up": method.warm_up,
        "timed": method.clock,
        "interval": method.interval,
        "load": method.startup,
        "counted": f"{method.seconds_per_batch_size:g} s for each batch size, over {method.loads} loads",
    }
    facts_table("How", words | {f"GPU {place}": str(said) for place, said in enumerate(outcome.gpu_clocks)})


def slower(outcome: Bench) -> Iterator[str]:
    """Yield, in words, what is slower than its baseline allows."""
    for change in outcome.comparison.slower if outcome.comparison else ():
        low, high = change.interval
        yield (
            f"{outcome.artefacts[change.artefact].name} at batch {change.batch} takes {change.slow_down:.3f} times "
            f"as long ({low:.3f} to {high:.3f})"
        )


def _times(outcome: Bench) -> Table:
    table = _table("Milliseconds per run", ("batch", "artefact"))
    for name in ("p50", "p90", "p95", "p99", "spread", "images/s", "times as fast", "interval"):
        table.add_column(name, justify="right")
    for timing in outcome.timings:
        low, high = timing.ratio_interval
        ratio = (f"{timing.ratio:.3f}", _range(low, high)) if timing.artefact else ("1", "")
        table.add_row(
            str(timing.batch),
            outcome.artefacts[timing.artefact].name,
            *(f"{value:.2f}" for value in (timing.p50, timing.p90, timing.p95, timing.p99)),
            f"{timing.spread:.0%}",
            f"{timing.images_per_second:,.0f}",
            *ratio,
            end_section=_last(outcome, timing),
        )
    return table


def _device(outcome: Bench) -> Table:
    table = _table("Of that on the GPU, milliseconds", ("batch", "artefact"))
    for name in ("images in", "network", "logits out"):
        table.add_column(name, justify="right")
    for timing in outcome.timings:
        if (device := timing.device) is not None:
            parts = (f"{value:.3f}" for value in (device.upload, device.compute, device.download))
            name = outcome.artefacts[timing.artefact].name
            table.add_row(str(timing.batch), name, *parts, end_section=_last(outcome, timing))
    return table


def _startups(outcome: Bench) -> Table:
    table = _table("Until the first answer", ("artefact",))
    for name in ("first load", "load", "first run", "memory", "peak"):
        table.add_column(name, justify="right")
    for startup in outcome.startups:
        times = (f"{value:,.1f} ms" for value in (startup.first_load, startup.load, startup.first_run))
        sizes = ("" if size is None else f"{size / 1e6:,.1f} MB" for size in (startup.memory, startup.peak))
        table.add_row(outcome.artefacts[startup.artefact].name, *times, *sizes)
    return table


def _profile(outcome: Bench, profile: Profile) -> Table:
    name = outcome.artefacts[profile.artefact].name
    if profile.note:
        table = _table(f"{name}: no profile", ("",))
        table.add_row(profile.note)
        return table
    shares = ", ".join(f"{kind.upper()} {share:.1%}" for kind, share in profile.shares)
    title = f"{name}, batch {profile.batch}: {shares} of {profile.milliseconds:.2f} ms while profiling"
    title += f"; a copy in memory moves {profile.bandwidth / 1e9:,.1f} GB/s"
    table = _table(title, ("layer", "kind", "operators"))
    for column in ("ms", "share", "GB/s"):
        table.add_column(column, justify="right")
    ranked = sorted(profile.layers, key=lambda layer: -layer.milliseconds)
    for layer in ranked[:MOST_LAYERS]:
        operators = ", ".join(layer.operators)
        times = f"{layer.milliseconds:.3f}", f"{layer.share:.1%}"
        moved = (
            f"{layer.moved / 1e6:,.2f}",
            f"{layer.bandwidth / 1e9:,.1f}",
            f"{layer.bandwidth / profile.bandwidth:.0%}",
        )
        table.add_row(layer.name, layer.kind, operators, *times, *(moved if layer.moved else ()))
    if rest := ranked[MOST_LAYERS:]:
        total = sum(layer.milliseconds for layer in rest)
        table.add_row(f"{len(rest)} more", "", "", f"{total:.3f}", f"{sum(layer.share for layer in rest):.1%}")
    return table


def _changes(outcome: Bench, comparison: Comparison) -> Table:
    title = f"Against {comparison.baseline} of {comparison.created}; {100 * comparison.limit:g}% are allowed"
    if comparison.other_machine:
        title += f"; ANOTHER MACHINE: {', '.join(comparison.other_machine)}"
    table = _table(title, ("batch", "artefact"))
    for name in ("p50 then", "p50 now", "times as long", "interval"):
        table.add_column(name, justify="right")
    table.add_column("")
    for change in comparison.changes:
        low, high = change.interval
        table.add_row(
            str(change.batch),
            outcome.artefacts[change.artefact].name,
            f"{change.before:.2f}",
            f"{change.now:.2f}",
            f"{change.slow_down:.3f}",
            _range(low, high),
            Text(change.verdict, style=_VERDICTS[change.verdict]),
        )
    return table


def _range(low: float, high: float) -> str:
    """Return an interval; one of few loads may be so wide that it says nothing."""
    return f"{low:.3f} to {high:.3f}" if high < 1000 else f"{low:.1e} to {high:.1e}"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="right" if name == "batch" else "left")
    return table


def _last(outcome: Bench, timing: Timing) -> bool:
    return timing.artefact == len(outcome.artefacts) - 1


def _print(table: Table) -> None:
    Console(markup=False, highlight=False).print(table)
