"""TensorRT's type stubs: what TensorRT 10.13 has, on machines where TensorRT itself cannot be installed."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

from native_build import ROOT, call

FOLDER = ROOT / "build" / "third_party" / "tensorrt-stubs"


@cache
def folder() -> Path:
    """Return the folder of the stubs; it is filled as `make` does it where it is not there yet.

    The package depends on TensorRT itself, which has it fetched from the vendor's own index: so --no-deps, and not into
    the environment, where a folder `tensorrt` without code would lie.
    """
    if not (FOLDER / "tensorrt_bindings").is_dir():
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", FOLDER)
        call(*pip, "--constraint", ROOT / "constraints.txt", "tensorrt-stubs")
        _repair(FOLDER / "tensorrt_bindings" / "tensorrt.pyi")
    return FOLDER


def _repair(path: Path) -> None:
    """Mend what is no Python in 10.13.0.35.1: an argument without a default behind some, and arguments called `in`."""
    text = path.read_text(encoding="utf-8")
    for wrong, right in (
        ("power: Weights = None, channel_axis: int)", "power: Weights = None, channel_axis: int = ...)"),
        (" in: list[", " in_: list["),
    ):
        assert wrong in text, f"{path} has another text than that of the version in constraints.txt"
        text = text.replace(wrong, right)
    path.write_text(text, encoding="utf-8")


@cache
def classes() -> dict[str, frozenset[str]]:
    """Return the names of each class of the stubs, those of its bases among them; the module's own under ""."""
    tree = ast.parse((folder() / "tensorrt_bindings" / "tensorrt.pyi").read_text(encoding="utf-8"))
    found: dict[str, frozenset[str]] = {}
    _collect(tree.body, "", found)
    module = ast.parse((folder() / "tensorrt" / "__init__.pyi").read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    own = {name for name in found if "." not in name} | functions
    found[""] = frozenset(own | {"__version__"} & _names(module.body))
    return found


def _collect(body: list[ast.stmt], prefix: str, found: dict[str, frozenset[str]]) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            inherited = {name for base in node.bases for name in found.get(ast.unparse(base), ())}
            found[prefix + node.name] = frozenset(_names(node.body) | inherited)
            _collect(node.body, f"{prefix}{node.name}.", found)


def _names(body: list[ast.stmt]) -> set[str]:
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


if __name__ == "__main__":
    print(f"TensorRT's type stubs: {folder()}")
