"""What a user should pick on a CPU: python benchmarks/networks_cpu.py [--json FOLDER] prints one table, as Markdown.

ResNet-32, SENet-32 and ResCNet-32 for 32x32 images, each in PyTorch eager and through torch.compile, in ONNX Runtime
with bodies and with librc_ort, and in OpenVINO where it is installed: all of them side by side in one process, at batch
1, 8 and 64, with one thread and with two. Three quarters of an hour on two cores, most of it torch.compile's; a third
of that with --loads 2 --seconds 2. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from native_cpu import exported
from rc_deploy import machine
from rc_deploy.bench import BenchOptions, bench
from rc_deploy.files import write_json
from rc_deploy.optional import is_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rc_deploy.bench import Bench, Timing

NETWORKS = {"resnet32": "ResNet-32", "senet32": "SENet-32", "rescnet32": "ResCNet-32"}
WAYS = {
    "{name}.pt": "PyTorch eager",
    "{name}.pt@compile": "torch.compile",
    "{name}.onnx@openvino": "OpenVINO",
    "{name}.onnx@bodies": "ONNX Runtime, bodies",
    "{name}.onnx@kernels": "ONNX Runtime, `librc_ort`",
}
BATCHES, THREADS = (1, 8, 64), (1, 2)


def main() -> None:
    """Print the table, and the machine and versions above it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", type=Path, metavar="FOLDER", help="write networks.tN.json here, for the report")
    arguments.add_argument("--seconds", type=float, default=5.0, help="for each batch size")
    arguments.add_argument("--loads", type=int, default=5, help="how often everything is loaded anew")
    chosen = arguments.parse_args()
    ways = {way: words for way, words in WAYS.items() if is_installed("openvino") or "openvino" not in way}
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            exported(name, Path(folder))
        subjects = [str(Path(folder) / way.format(name=name)) for name in NETWORKS for way in ways]
        outcomes = []
        for threads in THREADS:
            options = BenchOptions(batches=BATCHES, seconds=chosen.seconds, threads=threads, loads=chosen.loads)
            outcomes.append(bench(subjects, options))
            if chosen.json:
                chosen.json.mkdir(parents=True, exist_ok=True)
                write_json(chosen.json / f"networks.t{threads}.json", outcomes[-1].to_json())
    facts = machine.facts()
    print(f"{facts['cpu']}, {facts['usable_cores']} cores, load {facts['load_average']}; {facts['packages']}\n")
    print("\n".join(_table(outcomes, [(network, way) for network in NETWORKS.values() for way in ways.values()])))


def _table(outcomes: Sequence[Bench], rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return the medians in milliseconds; times slower than the fastest way of the same network in brackets."""
    heads = [f"batch {batch}, {threads} thr." for threads in THREADS for batch in BATCHES]
    lines = [f"| network | run by | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    for index, (network, way) in enumerate(rows):
        same = [place for place, row in enumerate(rows) if row[0] == network]
        cells = [_cell(outcome, index, same, batch) for outcome in outcomes for batch in BATCHES]
        lines.append(f"| {network} | {way} | {' | '.join(cells)} |")
    return lines


def _cell(outcome: Bench, index: int, same: Sequence[int], batch: int) -> str:
    found: dict[int, Timing] = {timing.artefact: timing for timing in outcome.timings if timing.batch == batch}
    times = found[index].p50 / min(found[place].p50 for place in same)
    text = f"{found[index].p50:.3g} ms"
    return f"**{text}**" if times == 1 else f"{text} ({times:.2f}x)"


if __name__ == "__main__":
    main()
