"""Files whose values are well-formed and yet cannot be right: wrong types, absurd sizes, nesting without end."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from conftest import SPEC
from rc_deploy import checkpoint, data, manifest
from rc_deploy.errors import InputError
from rc_deploy.files import json_text, read_json, write_json
from rc_deploy.inspection import inspect
from rc_deploy.specs import MOST_CLASSES, InputSpec
from rc_deploy.validate import ValidateOptions, validate, validate_chain

DEEP = "[" * 100_000 + "]" * 100_000
# Within what the JSON reader takes, and beyond what anything that follows could.
FAIRLY_DEEP = "[" * 500 + "]" * 500


def refusal(call: Callable[[], object]) -> str:
    """Return the message and hint of the InputError that a call raises."""
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.hint
    return f"{caught.value} {caught.value.hint}"


@pytest.fixture
def engine(small_engine: Path, tmp_path: Path) -> Path:
    """A copy of the small engine with all that lies beside it."""
    for name in (small_engine.name, manifest.path_for(small_engine).name, small_engine.with_suffix(".onnx").name):
        shutil.copy(small_engine.with_name(name), tmp_path)
    return tmp_path / small_engine.name


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"engine": 7}, "'engine' is a whole number where an object belongs"),
        ({"engine": {"name": 7, "sha256": "x"}}, "'engine.name' is a whole number where text belongs"),
        ({"typed_onnx": {"name": "x"}}, "'typed_onnx.sha256' is missing"),
        ({"backend": "tensorrt"}, "'backend' is text where an object belongs"),
        ({"backend": {"name": "tensorrt"}}, "'backend' lacks 'name' or 'version'"),
        ({"compute_capabilities": 8.6}, "'compute_capabilities' is a number where a list belongs"),
        ({"compute_capabilities": [8]}, "'compute_capabilities[0]' is a whole number where text belongs"),
        ({"precision": []}, "'precision' is a list where an object belongs"),
        ({"precision": {}}, "'precision.asked' is not text"),
        ({"proven": {"validation": json.loads(FAIRLY_DEEP)}}, "'proven.validation' is nested too deep"),
        ({"batch": None}, "'batch' is null where text belongs"),
        ({"typed_onnx": {"name": "../x.onnx", "sha256": "x"}}, "'../x.onnx', which is not a file in its folder"),
    ],
)
def test_manifests_of_the_wrong_form(engine: Path, change: dict[str, Any], place: str) -> None:
    path = manifest.path_for(engine)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for use in (lambda: inspect(engine), lambda: validate(engine, engine, ValidateOptions("random:0", limit=2))):
        message = refusal(use)
        assert place in message
        assert "Build the engine again" in message


def test_keys_of_a_later_minor_version_are_passed_over(engine: Path) -> None:
    path = manifest.path_for(engine)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "red"}))
    assert manifest.read(engine).engine.name == engine.name


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[]", "'the document' is a list where an object belongs"),
        ("{", "not valid JSON"),
        (DEEP, "nested too deep"),
        ({"precision": "fp7"}, "'precision' is 'fp7', not one of fp32, fp16"),
        ({"precision": []}, "'precision' is a list where text belongs"),
        ({"architecture": 3}, "'architecture' is a whole number where text belongs"),
        ({"arguments": json.loads(f'{{"a": {FAIRLY_DEEP}}}')}, "'arguments.a' is nested too deep"),
        ({"input": []}, "'input' is a list where an object belongs"),
    ],
)
def test_metadata_of_the_wrong_form(text: str | dict[str, Any], place: str, small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    entry = model.metadata_props[0]
    entry.value = text if isinstance(text, str) else json.dumps(json.loads(entry.value) | text)
    path = tmp_path / "spoiled.onnx"
    onnx.save(model, path)
    message = refusal(lambda: validate(path, small_onnx, ValidateOptions("random:0", limit=2)))
    assert f"The metadata of {path} are damaged" in message
    assert place in message
    assert "rc-deploy export" in message
    assert place in inspect(path).verdict


def described(path: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the checkpoint at `path` to `to`, with its description changed; a text takes its place."""
    content = torch.load(path)
    document = json.loads(content["rc_deploy"])
    found = change(document)
    torch.save({**content, "rc_deploy": found if isinstance(found, str) else json.dumps(document)}, to)
    return to


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"shape": [3, 16, 8.9]}, "'input.shape[2]' is a number where a whole number belongs"),
        ({"shape": [3, 16, True]}, "'input.shape[2]' is true or false"),
        ({"classes": "abcdefghij"}, "'input.classes' is text where a list belongs"),
        ({"classes": [1, 2]}, "'input.classes[0]' is a whole number where text belongs"),
        ({"classes": []}, "there must be 1 to"),
        ({"mean": [0.5, 0.4, float("nan")]}, "mean must hold 3 numbers"),
        ({"mean": [0.5, 0.4, None]}, "mean must hold 3 numbers"),
        ({"mean": [0.5, 0.4, 1e30]}, "mean must hold 3 numbers"),
        ({"std": [0.5, 0.4, float("nan")]}, "std must hold 3 numbers"),
        ({"std": [0.5, 0.4, float("inf")]}, "std must hold 3 numbers"),
        ({"std": [0.5, 0.4, 1e-300]}, "std must hold 3 numbers"),
        ({"std": [0.5]}, "std must hold 3 numbers"),
    ],
)
def test_input_specifications_of_the_wrong_form(
    change: dict[str, Any], place: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    path = described(small_checkpoint, tmp_path / "bad.pt", lambda document: document["input"].update(change))
    message = refusal(lambda: checkpoint.load(path))
    assert f"{path} has no valid description" in message
    assert place in message


def test_the_number_of_classes_has_a_bound() -> None:
    with pytest.raises(ValueError, match="1 to 1,048,576 classes"):
        replace(SPEC, classes=("x",) * (MOST_CLASSES + 1))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (DEEP, "nested too deep"),
        ('{"version": ' + FAIRLY_DEEP + "}", "'version' is a list where a whole number belongs"),
        ({"recipe": json.loads(FAIRLY_DEEP)}, "'recipe' is a list where an object belongs"),
        ({"recipe": {"a": json.loads(FAIRLY_DEEP)}}, "'recipe.a' is nested too deep"),
        ({"metrics": 3}, "'metrics' is a whole number where an object belongs"),
    ],
)
def test_descriptions_of_the_wrong_form(
    text: str | dict[str, Any], place: str, small_checkpoint: Path, tmp_path: Path
) -> None:
    path = described(
        small_checkpoint, tmp_path / "bad.pt", lambda document: text if isinstance(text, str) else document.update(text)
    )
    assert place in refusal(lambda: checkpoint.load(path))


@pytest.mark.parametrize("weights", [{1: torch.zeros(2)}, {"a": 1}, [torch.zeros(2)], None])
def test_weights_are_tensors_by_name(weights: object, small_checkpoint: Path, tmp_path: Path) -> None:
    torch.save({**torch.load(small_checkpoint), "weights": weights}, tmp_path / "bad.pt")
    assert "weights that are not tensors by name" in refusal(lambda: checkpoint.load(tmp_path / "bad.pt"))


IMAGES = np.zeros((2, 3, 16, 16), np.uint8)


@pytest.mark.parametrize(
    ("labels", "phrase"),
    [
        (np.array([0, 2**62]), "are from 0 to 4611686018427387904"),
        (np.array([0, 2**64 - 1], np.uint64), "are from 0 to 18446744073709551615"),
        (np.array([-1, 0]), "not negative"),
        (np.array([0, 1j]), "complex128 (2,)"),
        (np.array([0.0, 1.5]), "float64 (2,)"),
        (np.array([True, False]), "bool (2,)"),
        (np.array(["a", "b"]), "must be whole numbers (2,)"),
        (np.array([[0, 1]]), "must be whole numbers (2,)"),
        (np.array([0, 10]), "labels up to 10; the network has 10 classes"),
    ],
)
def test_labels_that_cannot_be(labels: Any, phrase: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=labels)
    assert phrase in refusal(lambda: data.load(f"npz:{tmp_path / 'set.npz'}", spec=SPEC))


def header(shape: str) -> bytes:
    """A .npy file that announces a shape and holds nothing."""
    file = io.BytesIO()
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    return file.getvalue()


@pytest.mark.parametrize(
    "shape", [f"({2**46}, 3, 16, 16)", f"({2**40},)", f"({10**30}, 3)", "(-1, 3)", "(" * 2000 + ")" * 2000, "'x'"]
)
@pytest.mark.parametrize("inside", [True, False])
def test_archives_whose_headers_lie(shape: str, inside: bool, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    if inside:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", header(shape))
    else:
        path.write_bytes(header(shape))
    assert "is not a NumPy archive" in refusal(lambda: data.load(f"npz:{path}", spec=SPEC))


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, IMAGES)
    assert "it is a single array" in refusal(lambda: data.load(f"npz:{tmp_path / 'set.npz'}", spec=SPEC))


def test_archives_take_the_networks_names_of_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=np.array([0, 1], np.uint8))
    assert data.load(f"npz:{tmp_path / 'set.npz'}", spec=SPEC).classes == SPEC.classes
    assert data.load(f"npz:{tmp_path / 'set.npz'}").classes == ("0", "1")


def test_a_thousand_classes_are_shown_in_short(small_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rc_deploy.cli import show

    names = tuple(f"class{index}" for index in range(1000))
    saved = replace(checkpoint.load(small_checkpoint), input=replace(SPEC, classes=names))
    path = small_checkpoint.with_name("thousand.pt")
    checkpoint.save(saved, path)
    show.inspected(inspect(path), None)
    shown = capsys.readouterr().out
    assert "class11" in shown
    assert "class12" not in shown
    assert "(1,000 in all)" in shown
    show.inspected(inspect(path), "-")
    assert json.loads(capsys.readouterr().out)["input"]["classes"] == list(names)


def test_specifications_survive_the_way_to_disk() -> None:
    from rc_deploy.decode import decode

    assert decode(InputSpec, json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_json_holds_no_number_that_json_cannot_hold(tmp_path: Path) -> None:
    document = {"a": [float("inf"), -float("inf"), (float("nan"), 1.5)], "b": {"c": np.float64("nan")}, "d": True}
    expected = {"a": [None, None, [None, 1.5]], "b": {"c": None}, "d": True}
    write_json(tmp_path / "a.json", document)
    for text in (json_text(document), (tmp_path / "a.json").read_text()):
        assert json.loads(text, parse_constant=pytest.fail) == expected


def test_a_failed_validation_is_valid_json(
    small_onnx: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that are not numbers: the errors are infinite, on standard output as in the engine's manifest."""
    from onnx import numpy_helper

    from rc_deploy.cli import parity

    typed = engine.with_suffix(".onnx")
    model = onnx.load(typed)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [10])
    values = numpy_helper.to_array(bias).copy()
    values[0] = np.nan
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, typed)
    record = read_json(manifest.path_for(engine), "manifest")
    record["typed_onnx"] = vars(manifest.FileRecord.of(typed))
    manifest.path_for(engine).write_text(json.dumps(record))

    outcome = validate_chain([engine], small_onnx, ValidateOptions("random:0", limit=2))
    assert not outcome.passed
    parity.validated(outcome, outcome.to_json(), "-")
    for text in (capsys.readouterr().out, manifest.path_for(engine).read_text()):
        document = json.loads(text, parse_constant=pytest.fail)
        (found,) = document.get("validations") or [{"comparison": document["proven"]["validation"]}]
        assert found["comparison"]["max_error"] is None
    assert manifest.read(engine).proven["validation"]["passed"] is False


def test_no_tolerance_is_no_division_by_zero() -> None:
    from rc_deploy.cli.show import _share

    assert _share(0.0, 0.0) == "0; rounding explains none"
    assert _share(0.01, 0.04) == "0.01, 25% of the 0.04 that rounding explains"
