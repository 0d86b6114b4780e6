"""The table of what the engine stage touches of each library: true of all three, and complete."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest
import tensorrt_rtx

from native_build import ROOT
from rc_deploy.engine.api import ATTRIBUTES, TENSORRT_10, TENSORRT_11, TENSORRT_RTX
from tensorrt_11_api import CLASSES, FUNCTIONS
from tensorrt_stubs import classes, folder

ENGINE = ROOT / "rc_deploy" / "engine"
# Names by which a module of a library goes in our sources, before anything was asked of it.
ROOTS = {"lib", "trt", "require", "load_engine", "self._context"}
# Methods that TensorRT's stubs give their enums, and 11's bindings leave to pybind11.
OF_EVERY_ENUM = {"name", "__members__"}


def in_rtx(path: str) -> bool:
    try:
        attrgetter(path)(tensorrt_rtx)
    except AttributeError:
        return False
    return True


def in_stubs(path: str) -> bool:
    owner, _, name = path.rpartition(".")
    return name in classes().get(owner, ())


def in_eleven(path: str) -> bool:
    owner, _, name = path.rpartition(".")
    if not owner:
        return name in CLASSES or name in FUNCTIONS or name == "__version__"
    known = CLASSES.get(owner)
    return known is not None and (name in known or name in OF_EVERY_ENUM)


@pytest.mark.parametrize(
    ("library", "has"),
    [(TENSORRT_RTX, in_rtx), (TENSORRT_10, in_stubs), (TENSORRT_11, in_eleven)],
    ids=["TensorRT-RTX itself", "stubs of 10.13", "names of 11.1"],
)
def test_the_table_is_true(library: str, has) -> None:  # type: ignore[no-untyped-def]
    found = {path for path in ATTRIBUTES if has(path)}
    assert found == {path for path, attribute in ATTRIBUTES.items() if library in attribute.libraries}
    assert not has("IBuilderConfig.set_wings")
    assert not has("Wings")


def test_what_a_library_lacks_has_a_note() -> None:
    for path, attribute in ATTRIBUTES.items():
        assert len(attribute.libraries) == 3 or attribute.note, path


def test_lists_of_names_are_whole_classes() -> None:
    """They are no copy of the table: the types that 11 removed are not in them, and most are none that we touch."""
    removed = {"FP16", "INT8", "BF16", "FP8", "INT4", "FP4"} & classes()["BuilderFlag"]
    assert removed
    assert not removed & CLASSES["BuilderFlag"]
    for name, names in CLASSES.items():
        assert names, name
    assert sum(map(len, CLASSES.values())) > 3 * len(ATTRIBUTES)


def touched(source: str) -> Iterator[tuple[str, int]]:
    """Yield each attribute that a module asks of a library, or of what came from one, with its line.

    What came from one: what `require` imports, parameters called `lib` or annotated with a type of `trt` or Any, and
    names that are given, by assignment, loop or comprehension, a value that comes from such a name.
    """
    tree = ast.parse(source)
    scopes: list[ast.AST] = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for scope in scopes or [tree]:
        arguments = [node for node in ast.walk(scope) if isinstance(node, ast.arg) and node.annotation]
        names = ROOTS | {node.arg for node in arguments if _is_a_librarys(node.annotation)}
        while (more := names | _given(scope, names)) != names:
            names = more
        for node in ast.walk(scope):
            if isinstance(node, ast.Attribute) and not _is_self(node.value) and _roots(node.value) & names:
                yield node.attr, node.lineno
            elif isinstance(node, ast.Call) and _roots(node.func) & {"getattr", "hasattr"}:
                subject, attribute = node.args[:2]
                if _roots(subject) & names:
                    yield ast.literal_eval(attribute), node.lineno
        for base in [node for node in ast.walk(scope) if isinstance(node, ast.ClassDef) and node.bases]:
            if any(_roots(part) & names for part in base.bases):
                yield from ((item.name, item.lineno) for item in base.body if isinstance(item, ast.FunctionDef))


def _is_a_librarys(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation).split(".")[0] in {"trt", "Any"}


def _given(scope: ast.AST, names: set[str]) -> set[str]:
    """Return the names that are given a value with one of `names` in it."""
    pairs: list[tuple[ast.expr, ast.expr | None]] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            pairs += [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            pairs.append((node.target, node.value))
        elif isinstance(node, ast.For | ast.comprehension):
            pairs.append((node.target, node.iter))
    return {
        name
        for target, value in pairs
        if value is not None and _values(value) & names
        for part in (target.elts if isinstance(target, ast.Tuple) else [target])
        for name in _roots(part)
    }


def _values(value: ast.expr) -> set[str]:
    """Return the names that a value may come from; the built-in types make plain values of what they are given."""
    plain = {"bool", "bytes", "int", "len", "range", "str", "tuple", "ParserError", "Compiled", "Progress"}
    if isinstance(value, ast.Call) and _roots(value.func) & plain:
        return set()
    if isinstance(value, ast.Tuple):
        return {name for element in value.elts for name in _values(element)}
    if isinstance(value, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp | ast.Compare | ast.BoolOp):
        return {name.id for name in ast.walk(value) if isinstance(name, ast.Name)} - plain
    if isinstance(value, ast.Call) and _roots(value.func) & {"enumerate", "zip", "sorted", "next", "iter", "list"}:
        return {name for argument in value.args for name in _values(argument)}
    return _roots(value)


def _roots(value: ast.expr) -> set[str]:
    """Return what a chain of attributes, calls and subscripts begins with: a name, or an attribute of ours."""
    while isinstance(value, ast.Attribute | ast.Call | ast.Subscript | ast.Starred):
        if isinstance(value, ast.Attribute) and _is_self(value.value):
            return {f"self.{value.attr}"}
        value = value.func if isinstance(value, ast.Call) else value.value
    return {value.id} if isinstance(value, ast.Name) else set()


def _is_self(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == "self"


# device.py drives the GPU through PyCUDA and touches no inference library.
SOURCES = {
    path.name: path.read_text(encoding="utf-8") for path in sorted(ENGINE.glob("*.py")) if path.name != "device.py"
}
# Of our own classes that inherit from a library's; of the dictionary that holds a runner's contexts; of BatchRange.
OWN = {"__init__", "phases", "reported", "clear", "maximum"}


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_outside_the_table_is_touched(name: str) -> None:
    listed = {part for path in ATTRIBUTES for part in path.split(".")}
    wrong = {f"{attribute} (line {line})" for attribute, line in touched(SOURCES[name])}
    wrong = {entry for entry in wrong if entry.partition(" ")[0] not in listed | OWN}
    assert not wrong, f"list them in rc_deploy/engine/api.py: {sorted(wrong)}"


def test_nothing_in_the_table_is_idle() -> None:
    used = {attribute for source in SOURCES.values() for attribute, _ in touched(source)}
    assert {path for path in ATTRIBUTES if path.rpartition(".")[2] not in used} == set()


@pytest.mark.parametrize(
    "line",
    [
        "lib.Wings()",
        "builder: trt.Builder = lib.Builder(log)\n    builder.wings",
        "layers = [lib.Builder(x).get() for x in y]\n    for layer in layers: layer.wings()",
        "[tensor.wings for tensor in (config.get_input(i) for i in y)]",
        "getattr(lib, 'wings')",
        "config.flags = config.wings",
        "if (found := config.get_input(0)): found.wings",
        "self._found = config.get_input(0)\n    self._found.wings()",
        "load_engine(y).wings",
    ],
)
def test_what_is_not_in_the_table_is_found(line: str) -> None:
    source = f"def f(lib: Any, config: trt.IBuilderConfig, y):\n    {line}\n"
    assert {"wings", "Wings"} & {attribute for attribute, _ in touched(source)}


def test_the_adapter_has_tensorrts_types(tmp_path: Path) -> None:
    """Mypy against the stubs of 10.13; a misspelled method and a wrong argument are seen to fail."""
    source = (ENGINE / "compiler.py").read_text(encoding="utf-8")
    mutants = {
        "right": source,
        "misspelled": source.replace("config.set_flag(", "config.set_flags("),
        "wrong": source.replace("profile.set_shape(tensor.name,", "profile.set_shape(tensor,"),
    }
    files = []
    for name, text in mutants.items():
        assert name == "right" or text != source
        files.append(tmp_path / f"{name}.py")
        files[-1].write_text(text, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert folder().is_dir()
    assert "right.py" not in result.stdout, result.stdout
    assert "misspelled.py:" in result.stdout, result.stdout
    assert '"IBuilderConfig" has no attribute "set_flags"' in result.stdout
    assert 'Argument "input" to "set_shape"' in result.stdout or 'Argument 1 to "set_shape"' in result.stdout
