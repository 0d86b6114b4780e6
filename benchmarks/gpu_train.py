"""Train the paper's networks on a GPU that is lent for minutes: `make gpu-train DATA=DIR`, call after call.

Each call takes the runs of `PLAN` in their order, from where the last call stopped, until its time is up: a run is then
interrupted as by Ctrl-C, and loses the epoch in hand. What there is of all runs, beside the paper, is written to
benchmarks/results/gpu_train.json after each piece. The folder of runs must be there again at the next call. With
--rehearse two tiny runs are trained on the CPU, into another folder, and marked as a rehearsal.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "training")]

from gpu_check import RESULTS, circumstances  # noqa: E402
from rc_deploy import gpu  # noqa: E402
from rc_deploy.files import json_text, read_json, write_json  # noqa: E402
from rc_training import runs as found_runs  # noqa: E402
from rc_training.results import collect  # noqa: E402
from rc_training.run import RECORD, Run, Status  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evidence import Circumstances

SCHEMA, SCHEMA_VERSION = "rc-deploy/gpu-train", 1
REHEARSAL = "REHEARSAL: tiny runs on the CPU. Nothing in here was reached by a recipe of the paper."
BUILD = ROOT / "build"
BUDGET = 540.0  # seconds: what a lease of ten minutes leaves beside the copying
SHORTEST = 20.0  # seconds of training for which a process is started
GRACE = 15.0  # seconds that an interrupted process has to end
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Planned:
    """One run: a recipe with a seed, and further words for `rc-deploy train`."""

    recipe: str
    seed: int
    words: tuple[str, ...]

    def folder(self, runs: Path) -> Path:
        """Return its own folder in that of all runs."""
        return runs / self.recipe / f"seed{self.seed}"


def plan(rehearse: bool, words: Sequence[str]) -> list[Planned]:
    """Return the runs in the order in which they are wanted; `words` are for `rc-deploy train`."""
    if rehearse:
        keys = ("architecture=resnet8", "activation=relu", "epochs=2", "batch_size=512")
        tiny = ("--device", "cpu", *(word for key in keys for word in ("--set", key)))
        return [Planned("digits", seed, tiny) for seed in (0, 1)]
    rows: list[tuple[str, tuple[int, ...]]] = [
        (f"table1/{name}-cifar10", (0, 1, 2)) for name in ("rescnet32", "resnet32")
    ]
    rows += [(f"table6/{form}-cifar10", (0,)) for form in ("gclu", "gclu-sigmoid", "gclu-tanh")]
    rows += [(f"table1/{name}-cifar100", (0,)) for name in ("rescnet32", "resnet32")]
    rows += [(f"table6/{form}-cifar100", (0,)) for form in ("gclu", "gclu-sigmoid", "gclu-tanh")]
    return [Planned(recipe, seed, ("--device", "cuda", *words)) for recipe, seeds in rows for seed in seeds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train until the time is up or everything is finished; 0 unless a run failed."""
    options = _options(arguments)
    problem = "" if options.rehearse else gpu.driver().problem
    if problem:
        print(f"gpu_train.py: nothing was trained, {problem}. --rehearse tries it out.", file=sys.stderr)
        return 1
    name = "gpu-train-rehearsal" if options.rehearse else "gpu-train"
    folder = (options.runs or BUILD / name).resolve()
    output = (options.output or (BUILD / name if options.rehearse else RESULTS)) / "gpu_train.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    surroundings = circumstances(options.rehearse)
    earlier, pieces, end = _earlier(output), [], time.monotonic() + options.budget
    wanted = plan(options.rehearse, shlex.split(options.train))
    for planned in wanted:
        run = planned.folder(folder)
        seconds = end - time.monotonic() - GRACE
        if _finished(run) or seconds < SHORTEST:
            continue
        start = time.monotonic()
        outcome = trained(_command(planned, run, options.data), surroundings.environment, seconds)
        pieces.append(_piece(planned, run, outcome, time.monotonic() - start))
        print(f"{planned.recipe} seed {planned.seed}: {outcome}, epoch {pieces[-1]['epoch']}", flush=True)
        record = _record(surroundings, [*earlier, *pieces], folder)
        write_json(output, _without_paths(record, {folder: "RUNS", options.data: "DATA"}))
    left = sum(not _finished(planned.folder(folder)) for planned in wanted)
    print(f"{REHEARSAL}\n" if options.rehearse else "", f"{left} of {len(wanted)} runs are left.", sep="")
    return int(any(piece["outcome"] == FAILED for piece in pieces))


def trained(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    """Run a command for so long at most, then interrupt it as Ctrl-C does; return what became of it."""
    process = subprocess.Popen(command, env=dict(environment), cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        return FINISHED if process.wait(seconds) == 0 else FAILED
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return FINISHED if process.wait(GRACE) == 0 else STOPPED
    except subprocess.TimeoutExpired:
        process.kill()  # it loses no more than the epoch in hand either
        process.wait()
        return STOPPED


def _command(planned: Planned, run: Path, data: Path | None) -> list[str]:
    where = ["--run", str(run), *(["--data", str(data)] if data else [])]
    seed = ["--seed", str(planned.seed)]
    return [sys.executable, "-m", "rc_deploy", "train", planned.recipe, *seed, *planned.words, *where, "--resume"]


def _finished(run: Path) -> bool:
    record = Run(run).read()
    return record is not None and record.status is Status.FINISHED


def _piece(planned: Planned, run: Path, outcome: str, seconds: float) -> dict[str, Any]:
    words = " ".join(planned.words)
    epoch = Run(run).epochs()
    return {
        "recipe": planned.recipe, "seed": planned.seed, "words": words, "outcome": outcome, "epoch": epoch,
        "seconds": round(seconds, 1), "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _record(surroundings: Circumstances, pieces: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Return everything that is known: of the machine and sources of the last piece, and of all pieces and runs."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "rehearsal": surroundings.rehearsal,
        "commit": surroundings.commit,
        "sources": surroundings.sources,
        "machine": dict(surroundings.machine),
        "pieces": list(pieces),
        # A run that failed before its first word, for want of data say, has left none.
        "results": collect(found_runs.find([folder]) if any(folder.rglob(RECORD)) else []).to_json(),
    }


def _without_paths(record: dict[str, Any], names: Mapping[Path | None, str]) -> Any:
    """Return the record with folders of this machine under other names."""
    text = json_text(record)
    for path, name in names.items():
        text = text.replace(str(path), name) if path else text
    return json.loads(text.replace(sys.executable, "python").replace(str(ROOT), "."))


def _earlier(output: Path) -> list[dict[str, Any]]:
    """Return the pieces of earlier calls."""
    if not output.exists():
        return []
    pieces: list[dict[str, Any]] = read_json(output, "record of earlier calls")["pieces"]
    return pieces


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="folder of the data sets; RC_DATA by default")
    parser.add_argument("--rehearse", action="store_true", help="train two tiny runs on the CPU, as a rehearsal")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for this call (%(default)s)")
    parser.add_argument("--runs", type=Path, help="folder of the runs; build/gpu-train by default")
    parser.add_argument("--output", type=Path, help="folder of the record; benchmarks/results by default")
    parser.add_argument("--train", default="--cuda-graph", metavar="WORDS", help="for rc-deploy train (%(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
