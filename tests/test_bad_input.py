"""Bad input through the command line: message, next step, documented exit code, no traceback, nothing lost."""

from __future__ import annotations

import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from rc_deploy import checkpoint
from rc_deploy.cli import main
from rc_deploy.errors import InputError, OutputError, UnsupportedError

Run = Callable[..., subprocess.CompletedProcess[str]]


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.witness,)


def refused(result: subprocess.CompletedProcess[str], code: int, *phrases: str) -> None:
    """Assert that a run failed the way the README says failures look."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.lstrip().startswith("error: ")
    assert "\n  try: " in result.stderr
    for phrase in phrases:
        assert phrase in result.stderr


def make_bad_checkpoint(kind: str, good: Path, folder: Path) -> Path:
    path = folder / "bad.pt"
    content = good.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "no zip at all":
        path.write_bytes(b"weights, honestly")
    elif kind == "pickle that runs code":
        torch.save({"rc_deploy": "{}", "weights": Evil(folder / "pwned")}, path)
    elif kind == "bare pickle that runs code":
        path.write_bytes(pickle.dumps(Evil(folder / "pwned"), protocol=2))
    elif kind == "foreign":
        torch.save({"state_dict": {}}, path)
    elif kind == "bare state dict":
        torch.save({"fc.weight": torch.zeros(2)}, path)
    elif kind == "future version":
        torch.save({"rc_deploy": '{"version": 99}', "weights": {}}, path)
    elif kind == "metadata of the wrong kind":
        torch.save({"rc_deploy": [1, 2], "weights": {}}, path)
    else:
        assert kind == "missing"
    return path


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        ("missing", "There is no"),
        ("empty", "is empty (0 bytes)"),
        ("truncated", "truncated or corrupt"),
        ("no zip at all", "is refused: it is damaged"),
        ("pickle that runs code", "would run code"),
        ("bare pickle that runs code", "would run code"),
        ("foreign", "not an rc-deploy checkpoint"),
        ("bare state dict", "names no architecture"),
        ("future version", "format version 99"),
        ("metadata of the wrong kind", "no valid description"),
    ],
)
def test_bad_checkpoints(
    kind: str,
    phrase: str,
    small_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through the command line, in this process: a process for each would spend its time importing PyTorch."""
    path = make_bad_checkpoint(kind, small_checkpoint, tmp_path)
    output = tmp_path / "model.onnx"
    output.write_bytes(b"earlier")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("sys.argv", ["rc-deploy", "export", str(path), str(output)])
    with pytest.raises(SystemExit) as stopped:
        main()
    stderr = capsys.readouterr().err
    refused(subprocess.CompletedProcess([], stopped.value.code, "", stderr), InputError.exit_code, phrase)  # type: ignore[arg-type]
    assert output.read_bytes() == b"earlier"
    assert not (tmp_path / "pwned").exists()


def test_pickle_through_a_process_of_its_own(cli: Run, small_checkpoint: Path, tmp_path: Path) -> None:
    bad = make_bad_checkpoint("pickle that runs code", small_checkpoint, tmp_path)
    refused(cli("export", bad, tmp_path / "model.onnx"), InputError.exit_code, "would run code", "plain tensors only")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.pt"]


def test_damaged_bytes_never_crash(small_checkpoint: Path, tmp_path: Path) -> None:
    """Seeded flips anywhere in a checkpoint are refused or change weights only; nothing else escapes."""
    content = small_checkpoint.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.pt"
    for _ in range(60):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), 20):
            damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            checkpoint.load(path).module()
        except (InputError, UnsupportedError) as error:
            assert error.hint


def test_unknown_architecture(cli: Run, small_checkpoint: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    path = tmp_path / "unknown.pt"
    checkpoint.save(replace(checkpoint.load(small_checkpoint), architecture="os.system"), path)
    result = cli("export", path, tmp_path / "model.onnx")
    refused(result, UnsupportedError.exit_code, "architecture named 'os.system'", "rescnet32", "--model module:factory")


@pytest.mark.parametrize("factory", ["nowhere:Net", "rc_deploy.nn:Nothing", "rc_deploy.nn"])
def test_wrong_factory(factory: str, small_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="cannot be imported"):
        checkpoint.load(small_checkpoint).module(factory)


def test_arguments_and_weights_that_do_not_fit(small_checkpoint: Path) -> None:
    from dataclasses import replace

    saved = checkpoint.load(small_checkpoint)
    with pytest.raises(InputError, match="does not take the arguments"):
        replace(saved, arguments={"colour": "red"}).module()
    with pytest.raises(InputError, match="weights do not fit"):
        replace(saved, arguments={"num_classes": 7, "activation": "gclu"}).module()


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": -1},
        {"num_classes": "many"},
        {"num_classes": 10**15},
        {"num_classes": 10, "activation": []},
        {"num_classes": 10, "reduction": 0},
    ],
)
def test_hostile_arguments_are_refused(arguments: dict[str, object], small_checkpoint: Path) -> None:
    from dataclasses import replace

    with pytest.raises(InputError) as caught:
        replace(checkpoint.load(small_checkpoint), arguments=arguments).module()
    assert caught.value.hint


@pytest.mark.parametrize("shape", [[3, 10**9, 10**9], [3, 0, 8], [3, 8], [], None, [3, 8, "x"], [3, 8, 1e400]])
def test_absurd_input_specifications_are_refused(shape: object, small_checkpoint: Path, tmp_path: Path) -> None:
    import json

    content = torch.load(small_checkpoint)
    document = json.loads(content["rc_deploy"])
    document["input"]["shape"] = shape
    torch.save({**content, "rc_deploy": json.dumps(document)}, tmp_path / "absurd.pt")
    with pytest.raises(InputError, match="no valid description of its network: 'input"):
        checkpoint.load(tmp_path / "absurd.pt")


def test_graphs_that_do_not_fit_are_refused(small_onnx: Path, tmp_path: Path) -> None:
    """Two inputs; an output too many; metadata of images that the graph does not take."""
    import json

    from rc_deploy.validate import ValidateOptions, validate

    def spoil(change: Callable[[onnx.ModelProto], None]) -> Path:
        model = onnx.load(small_onnx)
        change(model)
        onnx.save(model, tmp_path / "spoiled.onnx")
        return tmp_path / "spoiled.onnx"

    def another_input(model: onnx.ModelProto) -> None:
        model.graph.input.add().CopyFrom(model.graph.input[0])
        model.graph.input[1].name = "second"

    def another_output(model: onnx.ModelProto) -> None:
        model.graph.output.add().CopyFrom(model.graph.output[0])
        model.graph.node.append(onnx.helper.make_node("Relu", ["logits"], ["second"]))
        model.graph.output[1].name = "second"

    def smaller_images(model: onnx.ModelProto) -> None:
        document = json.loads(model.metadata_props[0].value)
        document["input"] |= {"shape": [1, 16, 16], "mean": [0.5], "std": [0.5]}
        model.metadata_props[0].value = json.dumps(document)

    for change in (another_input, another_output, smaller_images):
        path = spoil(change)
        with pytest.raises(InputError) as caught:
            validate(path, path, ValidateOptions("random:0", limit=2))
        assert caught.value.hint


def test_damaged_safetensors(small_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save(checkpoint.load(small_checkpoint), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="truncated or corrupt"):
        checkpoint.load(path)


def bad_onnx(kind: str, good: Path, folder: Path) -> Path:
    path = folder / "bad.onnx"
    if kind == "without bodies":
        model = onnx.load(good)
        del model.functions[:]
        onnx.save(model, path)
    elif kind == "corrupt":
        content = bytearray(good.read_bytes())
        content[100:200] = bytes(range(100, 200))
        path.write_bytes(content)
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:-2000])
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "invalid":
        model = onnx.load(good)
        model.graph.node[3].input[0] = "nothing"
        onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        ("without bodies", "without a function body"),
        ("corrupt", "truncated or corrupt"),
        ("truncated", "truncated or corrupt"),
        ("text", "truncated or corrupt"),
        ("empty", "is empty (0 bytes)"),
        ("invalid", "not a valid ONNX model"),
        ("missing", "There is no"),
    ],
)
def test_bad_onnx(cli: Run, kind: str, phrase: str, small_onnx: Path, tmp_path: Path) -> None:
    path = bad_onnx(kind, small_onnx, tmp_path)
    output = tmp_path / "model.engine"
    output.write_bytes(b"earlier")
    refused(cli("build", path, "--fp16", "-o", output), InputError.exit_code, phrase)
    assert output.read_bytes() == b"earlier"


def test_engine_where_onnx_is_wanted(cli: Run, small_engine: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "model.onnx"
    shutil.copy(small_engine, renamed)
    result = cli("build", renamed, "--fp16")
    refused(result, InputError.exit_code, "is a TensorRT engine, not an ONNX file", "manifest")


def test_checkpoint_where_onnx_is_wanted(cli: Run, small_checkpoint: Path) -> None:
    refused(cli("build", small_checkpoint, "--fp16"), InputError.exit_code, "is a checkpoint", "rc-deploy export")


def test_foreign_onnx_is_explained(cli: Run, small_onnx: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    result = cli("validate", tmp_path / "foreign.onnx", "-r", small_checkpoint, "--data", "random:0")
    refused(result, InputError.exit_code, "was not written by rc-deploy")


@pytest.mark.parametrize("place", ["/proc/model.onnx", "missing/model.onnx", "file/model.onnx", "folder"])
def test_unwritable_output(cli: Run, place: str, small_checkpoint: Path, tmp_path: Path) -> None:
    """Also for root, who may write to any folder: /proc takes no files from anybody."""
    (tmp_path / "file").write_text("a file, not a folder")
    (tmp_path / "folder").mkdir()
    refused(cli("export", small_checkpoint, tmp_path / place), OutputError.exit_code, place)


@pytest.mark.parametrize("command", ["export", "build"])
def test_full_disk(command: str, small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    """The kernel itself refuses to let any file grow beyond 8 KiB."""
    output = tmp_path / "output.engine"
    output.write_bytes(b"earlier")
    arguments = ["export", small_checkpoint, output] if command == "export" else ["build", small_onnx, "-o", output]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    result = subprocess.run(
        [sys.executable, "-B", "-m", "rc_deploy", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, preexec_fn=limit,
    )  # fmt: skip
    refused(result, OutputError.exit_code, "could not be written: File too large", "ulimit -f")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("output.engine", b"earlier")]


def test_no_space_left_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    from rc_deploy import files

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        files.write_bytes(tmp_path / "out", b"data")
    assert "The disk is full" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        ("digits", "names no split"),
        ("cifar10:valid", "names no split"),
        ("mnist:test", "is not a data source"),
        ("random:x", "is not a data source"),
        ("npz:/nowhere.npz", "There is no NumPy archive"),
        ("digits:test", "the network takes (3, 16, 16)"),
        ("cifar10:test", "no folder was given"),
    ],
)
def test_bad_data_sources(
    source: str, phrase: str, small_checkpoint: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rc_deploy.validate import ValidateOptions, validate

    monkeypatch.delenv("RC_DATA", raising=False)
    with pytest.raises(InputError) as caught:
        validate(small_onnx, small_checkpoint, ValidateOptions(source))
    assert phrase in str(caught.value)


def test_bad_archives(tmp_path: Path) -> None:
    from rc_deploy import data

    path = tmp_path / "set.npz"
    for arrays, phrase in (
        ({"pictures": np.zeros(1)}, "not a NumPy archive with an array `images`"),
        ({"images": np.zeros((1, 3, 4, 4))}, "must be uint8"),
        ({"images": np.zeros((0, 3, 4, 4), np.uint8)}, "must be uint8"),
        ({"images": np.array([object()])}, "not a NumPy archive"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8), "labels": np.zeros(3, int)}, "must be whole numbers (2,)"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(InputError) as caught:
            data.load(f"npz:{path}")
        assert phrase in f"{caught.value} {caught.value.hint}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"junk")
    with pytest.raises(InputError):
        data.load(f"npz:{path}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "m.onnx", "--fp16", "--fp32"),
        ("build", "m.onnx", "--batch", "8:1"),
        ("bench", "m.onnx", "--batch", "1,x"),
    ],
)
def test_contradictory_options(cli: Run, arguments: tuple[str, ...]) -> None:
    refused(cli(*arguments), InputError.exit_code)


def test_wrong_use_of_the_command_line_is_exit_code_2(cli: Run) -> None:
    result = cli("build", "m.onnx", "--fp8000")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
