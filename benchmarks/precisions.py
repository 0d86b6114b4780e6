"""Every precision of one checkpoint side by side: accuracy, agreement with PyTorch float32, size and build time.

    python benchmarks/precisions.py CHECKPOINT --calibration cifar10:train --data cifar10:test --data-dir DIR

Each is exported, typed, built by TensorRT-RTX, and validated on all images through its typed ONNX.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rc_deploy.engine import BuildOptions, build
from rc_deploy.errors import RcDeployError
from rc_deploy.export import export
from rc_deploy.specs import Calibration, CalibrationMethod, Precision
from rc_deploy.validate import ValidateOptions, validate


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--calibration", required=True, help="data to measure ranges on")
    parser.add_argument("--method", default="minmax", help="or a list with commas")
    parser.add_argument("--images", type=int, default=512, help="to measure ranges on")
    parser.add_argument("--data", required=True, help="data to validate on")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, help="images to validate on; all by default")
    parser.add_argument("--max-accuracy-drop", type=float, help="a further row, int8 with what must stay float32")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def variants(asked: argparse.Namespace) -> dict[str, BuildOptions]:
    """Return what is built, by name."""
    plain = BuildOptions(backend="tensorrt-rtx", folder=asked.data_dir)
    found = {name: replace(plain, precision=Precision(name)) for name in ("fp32", "fp16", "bf16")}
    for name in ("int8", "fp8"):
        for method in asked.method.split(","):
            calibration = Calibration(asked.calibration, asked.images, CalibrationMethod(method))
            found[f"{name} {method}"] = replace(plain, precision=Precision(name), calibration=calibration)
    if asked.max_accuracy_drop is not None:
        searched = replace(found[f"int8 {asked.method.split(',')[0]}"], max_accuracy_drop=asked.max_accuracy_drop)
        found[f"int8, at most {asked.max_accuracy_drop:g} points"] = searched
    return found


def row(model: Path, options: BuildOptions, engine: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Build and validate one precision."""
    start = time.perf_counter()
    result = build(model, engine, options)
    seconds = time.perf_counter() - start
    outcome = validate(
        result.typed_onnx, asked.checkpoint, ValidateOptions(asked.data, asked.data_dir, asked.limit, batch=100)
    )
    failed = [f"{item.name}: {item.value:.4g}, not {item.bound:.4g}" for item in outcome.criteria if not item.passed]
    return {
        "accuracy": outcome.comparison.artefact_accuracy,
        "reference_accuracy": outcome.comparison.reference_accuracy,
        "agreement": outcome.comparison.agreement,
        "images": outcome.comparison.images,
        "max_error": outcome.comparison.max_error,
        "bound": outcome.tolerance.maximum,
        "failed": failed,
        "engine_bytes": engine.stat().st_size,
        "onnx_bytes": result.typed_onnx.stat().st_size,
        "library_seconds": result.manifest.seconds,
        "seconds": seconds,
        "search": result.search.to_json() if result.search else None,
    }


def main() -> None:
    """Print a row for each precision as soon as it is known."""
    asked = arguments()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        export(asked.checkpoint, model)
        print("| precision | accuracy | agreement | largest error | bound | engine | library | whole build | proven |")
        print("|---|---|---|---|---|---|---|---|---|")
        for name, options in variants(asked).items():
            try:
                rows[name] = row(model, options, Path(folder) / f"{len(rows)}.engine", asked)
            except RcDeployError as error:
                rows[name] = {"error": str(error)}
                print(f"| {name} | {error} |", flush=True)
                continue
            print(shown(name, rows[name]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def shown(name: str, found: dict[str, Any]) -> str:
    """Return a row of the table."""
    accuracy = "" if found["accuracy"] is None else f"{found['accuracy']:.2f}%"
    kept = found["search"]["kept"] if found["search"] else []
    total = len(found["search"]["layers"]) if found["search"] else 0
    name = f"{name}: {len(kept)} of {total} layers float32" if total else name
    return (
        f"| {name} | {accuracy} | {found['agreement']:.2f}% | {found['max_error']:.3g} | {found['bound']:.3g} | "
        f"{found['engine_bytes'] / 1e6:.2f} MB | {found['library_seconds']:.1f} s | {found['seconds']:.1f} s | "
        f"{'; '.join(found['failed']) or 'yes'} |"
    )


if __name__ == "__main__":
    main()
