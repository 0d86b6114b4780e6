"""The shape of the code: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 400

# Layers from the bottom up (docs/architecture.md): a module imports from its own layer or from those before it.
LAYERS = [
    {"errors", "schema", "__init__"},
    {"decode", "elf", "optional", "files", "libraries", "specs", "gpu", "native"},
    {
        "artefacts",
        "compare",
        "manifest",
        "matrix",
        "models",
        "outputs",
        "ranges",
        "significance",
        "tolerances",
        "weights",
    },
    {"checkpoint", "condition", "cuda_runner", "data", "nn", "openvino_runner", "runners"},
    {"graph", "machine"},
    {
        "accuracies",
        "assignment",
        "calibration",
        "check",
        "engine",
        "export",
        "loading",
        "parts",
        "quantisation",
        "sensitivity",
    },
    {
        "bench",
        "bisection",
        "doctor",
        "flips",
        "inspection",
        "parity",
        "reference_layers",
        "report",
        "responses",
        "stress",
        "validate",
        "verdict",
    },
    {"cli", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Imported where they are used, never when a module of the toolkit is.
LAZY = {
    "torch", "tensorrt", "tensorrt_rtx", "onnxruntime", "pycuda", "sklearn", "scipy", "PIL", "matplotlib", "onnxscript",
    "openvino",
}  # fmt: skip


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def top(path: Path) -> str:
    return path.relative_to(ROOT / "rc_deploy").parts[0].removesuffix(".py")


def imports(path: Path, everywhere: bool) -> Iterator[str]:
    """Dotted names a file imports; only those at import time unless `everywhere`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources("rc_deploy"), ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_downwards(path: Path) -> None:
    for name in imports(path, everywhere=True):
        assert not name.startswith("rc_training"), "rc_deploy never imports rc_training"
        parts = name.split(".")
        if parts[0] == "rc_deploy" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[top(path)], f"{path.name} imports {name}, which is above it"


@pytest.mark.parametrize("path", sources("rc_deploy"), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_used(path: Path) -> None:
    if top(path) != "nn":
        assert not {name.partition(".")[0] for name in imports(path, everywhere=False)} & LAZY


def test_every_module_has_its_layer() -> None:
    assert {top(path) for path in sources("rc_deploy")} == set(LEVEL)


@pytest.mark.parametrize("folder", ["rc_deploy", "training", "tests"])
def test_no_file_is_too_long(folder: str) -> None:
    for path in sources(folder):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST, path
