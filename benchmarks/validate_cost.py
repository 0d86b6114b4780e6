"""What `rc-deploy validate` costs beside the inference of the networks that it compares.

    python benchmarks/validate_cost.py CHECKPOINT --data cifar10:test [--limit N] [--rounds 5]

It exports the checkpoint and lets three things take turns: the bare inference of the checkpoint in PyTorch and of the
ONNX file in ONNX Runtime, batch after batch; a validation of the file as the command runs it, with its loading,
condition numbers, float64, inputs made to break things and statistics; and the same with --no-stress. Printed are the
medians and the ratio of each round's validation to its inference. Where librc_ort is, a validation runs the file a
second time with native kernels, and so does the bare inference; RC_DEPLOY_LIBRARIES= (empty) leaves that out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rc_deploy import data, loading
from rc_deploy.export import export
from rc_deploy.validate import ValidateOptions, validate

LARGEST_RATIO = 1.3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", required=True, help="as of rc-deploy validate")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    options = ValidateOptions(given.data, given.data_dir, given.limit, threads=given.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        export(given.checkpoint, model)
        rounds = [_round(given.checkpoint, model, options) for _ in range(given.rounds)]
    bare, whole, plain = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio, plain_ratio = (statistics.median(times[index] / times[0] for times in rounds) for index in (1, 2))
    print(f"bare inference {bare:.2f} s, validate {whole:.2f} s, --no-stress {plain:.2f} s; {given.rounds} rounds")
    print(
        f"validate takes {ratio:.3f} times the bare inference (at most {LARGEST_RATIO}); --no-stress {plain_ratio:.3f}"
    )


def _round(checkpoint: Path, model: Path, options: ValidateOptions) -> tuple[float, float, float]:
    """Return the seconds of bare inference, of a validation, and of one without stress."""
    bare = _inference(checkpoint, model, options)
    seconds = []
    for chosen in (options, replace(options, stress=False)):
        start = time.perf_counter()
        validate(model, checkpoint, chosen)
        seconds.append(time.perf_counter() - start)
    return bare, seconds[0], seconds[1]


def _inference(checkpoint: Path, model: Path, options: ValidateOptions) -> float:
    """Return the seconds that the networks take for all images, which are normalised and loaded before."""
    expected, found = (loading.load(path, options.threads, bodies=True) for path in (checkpoint, model))
    images = data.load(options.data, options.folder, expected.input, options.limit).images
    batches = [
        data.normalise(images[start : start + options.batch], expected.input)
        for start in range(0, len(images), options.batch)
    ]
    with ExitStack() as stack:
        runners = [stack.enter_context(runner) for runner in (expected.runner, found.runner)]
        if found.kernels:
            runners.append(stack.enter_context(found.kernels))
        start = time.perf_counter()
        for batch in batches:
            for runner in runners:
                runner.run(batch)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
