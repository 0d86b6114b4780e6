"""Documents as the other stages write them, with made-up contents, for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# SHA-256 of the made-up files; what a validation with a note is about is the engine.
CHECKPOINT, SOURCE, TYPED, ENGINE = ("c" * 64, "b" * 64, "f" * 64, "e" * 64)

MACHINE: dict[str, Any] = {
    "created": "2001-02-03T04:05:06+00:00",
    "rc_deploy": "0.0.test",
    "cpu": "Test CPU",
    "usable_cores": 2,
    "load_average": 0.5,
    "system": "Test-OS",
    "python": "3.99",
    "gpus": [{"name": "Test GPU", "compute_capability": "8.9"}],
    "cuda_driver": None,
    "packages": {"onnx": "9.9.9"},
}


def validation(precision: str = "fp16", *, error: float = 0.002, note: str = "") -> dict[str, Any]:
    """Return a made-up validation; it passes unless `error` is over 0.034."""
    found = {
        "artefact": {
            "path": f"made/up.{precision}.onnx",
            "kind": "engine" if note else "onnx",
            "sha256": ENGINE if note else SOURCE if precision == "fp32" else TYPED,
            "precision": precision,
            "runner": "Test Runtime",
            "note": note,
        },
        "reference": {
            "path": "made/up.pt",
            "kind": "checkpoint",
            "sha256": CHECKPOINT,
            "precision": "fp32",
            "runner": "Test Torch",
            "note": "",
        },
        "data": "digits:test",
        "comparison": {
            "images": 360,
            "max_error": error,
            "mean_error": 0.0005,
            "cosine": 0.9999,
            "agreement": 100.0,
            "flips": [],
            "reference_accuracy": 98.3333333,
            "artefact_accuracy": 98.3333333,
            "error_quantiles": [0.0, 0.0008, 0.0012, error],
            "error_p999": error,
            "top5_agreement": 100.0,
            "flipped": [],
            "reference_interval": [96.4, 99.2],
            "artefact_interval": [96.4, 99.2],
            "lost": 0,
            "won": 0,
            "mcnemar": 1.0,
        },
        "tolerance": {"maximum": 0.034, "mean": 0.005, "condition": 1.25, "variance": 4.5e-6, "scale": 4.7},
        "criteria": [
            {
                "name": "largest error of a logit",
                "value": error,
                "bound": 0.034,
                "at_least": False,
                "passed": error <= 0.034,
            },
            {"name": "top-1 agreement (%)", "value": 100.0, "bound": 99.0, "at_least": True, "passed": True},
        ],
        "passed": error <= 0.034,
    }
    return chain(found)


def chain(*validations: dict[str, Any], seed: int | None = None) -> dict[str, Any]:
    """Return the document of a run of `validate` on one or several artefacts."""
    return {
        "schema": "rc-deploy/validation",
        "schema_version": 2,
        "machine": MACHINE,
        "selection": {"data": "digits:test", "limit": 360 if seed is not None else None, "seed": seed},
        "validations": list(validations),
        "passed": all(item["passed"] for item in validations),
    }


def first(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a run of `validate` says of its first artefact."""
    found: dict[str, Any] = document["validations"][0]
    return found


def failed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its first criterion not met."""
    first(document)["criteria"][0]["passed"] = first(document)["passed"] = document["passed"] = False
    return document


def bench() -> dict[str, Any]:
    """Return a made-up benchmark of two artefacts at two batch sizes."""
    subjects = (("made/up.pt", CHECKPOINT, "checkpoint", "fp32"), ("made/up.fp16.onnx", TYPED, "onnx", "fp16"))
    artefacts = [
        {"path": path, "sha256": sha256, "kind": kind, "precision": precision, "runner": "Test Runtime"}
        for path, sha256, kind, precision in subjects
    ]
    timings = [
        {
            "artefact": artefact,
            "batch": batch,
            "rounds": 40,
            "p50": 2.0 - artefact,
            "p90": 2.2 - artefact,
            "p95": 2.5 - artefact,
            "p99": 3.0 - artefact,
            "fastest": 0.9,
            "loads": 10,
            "spread": 0.1,
            "p50_interval": [1.9 - artefact, 2.1 - artefact],
            "images_per_second": 1000 * batch / (2.0 - artefact),
            "ratio": 1.0 + artefact,
            "ratio_spread": [1.0, 1.0 + 2 * artefact],
            "ratio_interval": [1.0, 1.0 + 2 * artefact],
        }
        for batch in (1, 8)
        for artefact in (0, 1)
    ]
    method = {
        "order": "the artefacts take turns",
        "turn": "one run timed",
        "warm_up": "until steady",
        "clock": "wall clock of one call",
        "interval": "99%, made up",
        "startup": "from file to ready",
        "seconds_per_batch_size": 5,
        "loads": 10,
        "threads": 2,
        "concurrency": 1,
        "isolated": False,
    }
    return {
        "schema": "rc-deploy/bench",
        "schema_version": 2,
        "machine": MACHINE,
        "method": method,
        "artefacts": artefacts,
        "timings": timings,
    }


def manifest() -> dict[str, Any]:
    """Return a made-up manifest of an fp16 engine."""
    found = {
        "compute_layers": {"HALF": 6},
        "other_layers": {"HALF": 23, "FLOAT": 62},
        "engine_tensors": {"half": 40, "float": 31},
        "engine_weight_bytes": {"half": 6556, "float": 68},
    }
    return {
        "format": "rc-deploy/engine",
        "format_version": 2,
        "engine": {"name": "up.fp16.engine", "sha256": ENGINE},
        "source": {"name": "up.onnx", "sha256": SOURCE},
        "typed_onnx": {"name": "up.fp16.onnx", "sha256": TYPED},
        "checkpoint_sha256": CHECKPOINT,
        "backend": {"name": "tensorrt-rtx", "version": "0.0.0"},
        "compute_capabilities": ["8.6", "8.9"],
        "batch": "1:8:64",
        "precision": {"asked": "fp16", "planned": {"narrow": 6, "wide": 0}, "found": found},
        "created": "2001-02-03T04:05:06+00:00",
        "rc_deploy": "0.0.test",
        "seconds": 0.152,
        "plugins": [],
        "proven": {},
    }


def training() -> dict[str, Any]:
    """Return a made-up training run of three epochs."""
    history = [
        {
            "epoch": epoch,
            "loss": 1.0 / epoch,
            "train_accuracy": 60.0 + 10 * epoch,
            "test_accuracy": 65.0 + 10 * epoch,
            "learning_rate": 0.1,
            "seconds": 0.5,
        }
        for epoch in (1, 2, 3)
    ]
    return {
        "schema": "rc-deploy/training",
        "schema_version": 1,
        "machine": MACHINE,
        "architecture": "testnet8",
        "arguments": {"num_classes": 10},
        "parameters": 12345,
        "recipe": {"name": "digits", "epochs": 3, "augment": ["affine"], "seed": 4},
        "metrics": {
            "test_accuracy_last": 95.0,
            "test_accuracy_best": 95.0,
            "epochs": 3,
            "seconds": 1.5,
            "images_per_second": 1234.5,
            "history": history,
        },
    }


def everything() -> dict[str, dict[str, Any]]:
    return {
        "bench.json": bench(),
        "engine.json": manifest(),
        "fp16.json": validation("fp16", note="The engine itself was NOT run."),
        "fp32.json": validation("fp32", error=1e-6),
        "training.json": training(),
    }


def write(folder: Path, documents: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder
