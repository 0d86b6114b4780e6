"""Outputs: no input, link or other artefact is ever replaced, and files that belong together appear together."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rc_deploy import manifest
from rc_deploy.artefacts import Kind, recognise
from rc_deploy.engine import BuildOptions, build
from rc_deploy.errors import InputError, OutputError
from rc_deploy.export import export
from rc_deploy.files import require_file, require_writable, sha256, together, write_bytes
from rc_deploy.outputs import require_outputs
from rc_deploy.specs import Precision
from rc_deploy.validate import ValidateOptions, validate
from report_documents import training, validation, write

RunHere = Callable[..., tuple[object, str]]
FP16 = BuildOptions(precision=Precision.FP16, backend="tensorrt-rtx")
SHAPES = ("fifo", "socket", "stream")


@pytest.fixture
def place(
    small_checkpoint: Path, small_onnx: Path, small_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder to stand in that holds one of everything."""
    for source, name in (
        (small_checkpoint, "c.pt"),
        (small_onnx, "m.onnx"),
        (small_engine, small_engine.name),
        (small_engine.with_suffix(".onnx"), small_engine.with_suffix(".onnx").name),
        (manifest.path_for(small_engine), small_engine.name + ".json"),
    ):
        shutil.copy(source, tmp_path / name)
    write(tmp_path, {"t.json": training(), "v.json": validation()})
    (tmp_path / "recipe.toml").write_text(
        (Path(__file__).parents[1] / "training/recipes/digits.toml").read_text(encoding="utf-8")
    )
    (tmp_path / "set.npz").write_bytes(b"not looked at")
    os.link(tmp_path / "c.pt", tmp_path / "hard.pt")
    (tmp_path / "soft.pt").symlink_to("c.pt")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    (tmp_path / "link.png").symlink_to("set.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snapshot(folder: Path) -> dict[str, object]:
    return {
        path.name: path.readlink() if path.is_symlink() else (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


@pytest.mark.parametrize(
    "command",
    [
        "export c.pt c.pt",
        "export c.pt ./c.pt",
        "export c.pt hard.pt",
        "export soft.pt c.pt",
        "export c.pt soft.pt",
        "export c.pt new.onnx --json c.pt",
        "export c.pt new.onnx --json new.onnx",
        "build m.onnx -o m.engine",
        "build m.onnx -o m.onnx",
        "build m.onnx -o new.onnx",
        "build m.onnx --json m.onnx",
        "build m.onnx --json m.fp32.engine",
        "build m.onnx --json m.fp32.engine.json",
        "build m.onnx --json m.fp32.onnx",
        "validate small.fp16.engine -r c.pt --data random:0 --json small.fp16.engine.json",
        "validate m.onnx -r c.pt --data npz:set.npz --json set.npz",
        "bench m.onnx --json m.onnx",
        "inspect small.fp16.engine --json small.fp16.onnx",
        "report v.json -o v.json",
        "report . -o t.json",
        "report v.json -o new.html --json v.json",
        "report v.json -o new.html --json new.html",
        "train recipe.toml -o recipe.toml",
        "train recipe.toml --json recipe.toml",
        "train recipe.toml -o new.pt --json new.pt",
        "plot responses c.pt --data npz:set.npz -o link.png",
        "plot responses c.pt --data random:0 -o new.png --json c.pt",
    ],
)
def test_no_output_overwrites_an_input_or_another_output(command: str, place: Path, here: RunHere) -> None:
    before = snapshot(place)
    code, stderr = here(*command.split())
    assert code == OutputError.exit_code, stderr
    assert "would overwrite a file that this command also reads or writes" in stderr
    assert "  try: " in stderr
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "command",
    [
        "validate m.onnx -r c.pt --data cifar10:test --data-dir {0} --json {1}",
        "train cifar10-rescnet8 --data {0} -o {1}",
    ],
)
@pytest.mark.parametrize("file", ["test_batch.bin", "batches.meta.txt"])
def test_no_output_overwrites_the_data(command: str, file: str, place: Path, here: RunHere) -> None:
    folder = place / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in ("test_batch.bin", "batches.meta.txt"):
        (folder / name).write_bytes(b"pixels")
    code, stderr = here(*command.format("data", folder / file).split())
    assert code == OutputError.exit_code, stderr
    assert "would overwrite" in stderr
    assert (folder / file).read_bytes() == b"pixels"


@pytest.mark.parametrize(
    ("command", "lost"),
    [
        ("export c.pt small.fp16.engine", "a TensorRT engine"),
        ("export c.pt small.fp16.engine.json", "the manifest of an engine"),
        ("export small.pt v.json", "a JSON document"),
        ("build m.onnx -o c.pt", "a checkpoint"),
        ("build m.onnx -o small.fp16.onnx", "an ONNX file"),
        ("inspect m.onnx --json c.pt", "a checkpoint"),
        ("doctor --json small.fp16.engine.json", "the manifest of an engine"),
        ("doctor --json m.onnx", "an ONNX file"),
        ("report v.json -o small.fp16.engine", "a TensorRT engine"),
        ("report v.json -o t.json", "a JSON document"),
        ("train recipe.toml -o m.onnx", "an ONNX file"),
        ("export c.pt picture.png", "a picture"),
    ],
)
def test_no_output_replaces_another_kind_of_artefact(command: str, lost: str, place: Path, here: RunHere) -> None:
    before = snapshot(place)
    code, stderr = here(*command.split())
    assert code == OutputError.exit_code, stderr
    assert f"looks like {lost}; " in stderr or ("would overwrite" in stderr and "small.fp16.onnx" in command), stderr
    assert snapshot(place) == before


def test_kinds_are_told_by_content(place: Path) -> None:
    kinds = {path.name: recognise(path) for path in place.iterdir()}
    assert kinds == {
        "c.pt": Kind.CHECKPOINT,
        "hard.pt": Kind.CHECKPOINT,
        "soft.pt": Kind.CHECKPOINT,
        "m.onnx": Kind.ONNX,
        "small.fp16.onnx": Kind.ONNX,
        "small.fp16.engine": Kind.ENGINE,
        "small.fp16.engine.json": Kind.MANIFEST,
        "t.json": Kind.DOCUMENT,
        "v.json": Kind.DOCUMENT,
        "picture.png": Kind.PICTURE,
        "link.png": None,
        "recipe.toml": None,
        "set.npz": None,
    }


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.4\n", Kind.PICTURE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Kind.PICTURE),
        (b"<?xml version='1.0'?>\n<!DOCTYPE svg>\n<svg/>", Kind.PICTURE),
        (b"<?xml version='1.0'?>\n<note/>", None),
        (b"\x89PNG", None),
    ],
)
def test_pictures_are_told_by_content(tmp_path: Path, head: bytes, kind: Kind | None) -> None:
    (tmp_path / "file").write_bytes(head)
    assert recognise(tmp_path / "file") is kind


def test_an_older_file_of_the_same_kind_is_replaced(place: Path, here: RunHere) -> None:
    (place / "old.onnx").write_bytes((place / "small.fp16.onnx").read_bytes())
    assert here("export", "c.pt", "old.onnx", "--json", "v.json")[0] == 0
    assert (place / "old.onnx").read_bytes() == (place / "m.onnx").read_bytes()
    assert here("report", "t.json", "-o", "r.html", "--json", "summary.json")[0] == 0
    assert here("report", "t.json", "-o", "r.html", "--json", "summary.json")[0] == 0


def test_json_needs_a_name_and_a_place_before_any_work(place: Path, here: RunHere) -> None:
    for command in ("export c.pt new.onnx", "build m.onnx", "bench m.onnx", "doctor", "train recipe.toml -o new.pt"):
        code, stderr = here(*command.split(), "--json", "")
        assert code == OutputError.exit_code
        assert "--json names no file" in stderr
        code, stderr = here(*command.split(), "--json", "nowhere/out.json")
        assert code == OutputError.exit_code
        assert "mkdir -p nowhere" in stderr
    assert not (place / "new.onnx").exists()
    assert not (place / "m.fp32.engine").exists()


class TestTypedOnnxBesideTheEngine:
    """Nobody names it, so it replaces nothing but what an earlier build of the same engine left."""

    def test_of_somebody_else_is_kept(self, place: Path, here: RunHere) -> None:
        shutil.copy("small.fp16.onnx", "net.onnx")
        before = snapshot(place)
        code, stderr = here("build", "m.onnx", "--fp16", "-o", "m.engine")
        assert code == OutputError.exit_code
        assert "would overwrite" in stderr
        code, stderr = here("build", "m.onnx", "--fp32", "-o", "net.engine")
        assert code == OutputError.exit_code
        assert "would overwrite net.onnx, which no earlier build of net.engine wrote" in stderr
        assert "-o net-2.engine" in stderr
        assert snapshot(place) == before

    def test_of_the_earlier_build_is_replaced(self, place: Path) -> None:
        """Also where what is built has changed in between."""
        engine = place / "again.engine"
        build(place / "m.onnx", engine, FP16)
        build(place / "m.onnx", engine, FP16)
        first = sha256(place / "again.onnx")
        build(place / "m.onnx", engine, BuildOptions(backend="tensorrt-rtx"))
        assert manifest.read(engine).typed_onnx.sha256 == sha256(place / "again.onnx") != first

    def test_of_an_interrupted_build_is_replaced(self, place: Path) -> None:
        """A build killed between its renames leaves a typed ONNX that no manifest knows."""
        engine = place / "again.engine"
        build(place / "m.onnx", engine, FP16)
        engine.unlink()
        manifest.path_for(engine).unlink()
        build(place / "m.onnx", engine, FP16)
        manifest.read(engine)


@pytest.fixture
def strange(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Something that is no plain file: a FIFO, a socket, or the way to an open file of this process."""
    path = tmp_path / "strange"
    if request.param == "fifo":
        os.mkfifo(path)
        yield path
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            yield path
    else:
        with path.open("wb") as file:
            yield Path(f"/proc/self/fd/{file.fileno()}")


@pytest.mark.parametrize("strange", SHAPES, indirect=True)
def test_only_plain_files_are_replaced(strange: Path, tmp_path: Path) -> None:
    before = strange.stat()
    (tmp_path / "link").symlink_to(strange)
    for path in (strange, tmp_path / "link"):
        for attempt in (require_writable, lambda place: write_bytes(place, b"")):
            with pytest.raises(OutputError, match="is a FIFO|is a socket|is a stream") as caught:
                attempt(path)
            assert "--json -" in caught.value.hint
    assert os.path.samestat(strange.stat(), before)
    assert {path.name for path in tmp_path.iterdir()} == {"strange", "link"}


@pytest.mark.parametrize("strange", ["fifo", "socket"], indirect=True)
@pytest.mark.timeout(30)
def test_inputs_that_are_no_plain_files_are_never_opened(strange: Path, here: RunHere) -> None:
    with pytest.raises(InputError, match="where a checkpoint belongs"):
        require_file(strange, "checkpoint")
    code, stderr = here("inspect", strange)
    assert code == InputError.exit_code
    assert "is a FIFO (named pipe), where a file belongs" in stderr or "is a socket, where a file belongs" in stderr


def test_folders_are_named_in_words(tmp_path: Path, here: RunHere) -> None:
    code, stderr = here("inspect", tmp_path)
    assert code == InputError.exit_code
    assert f"{tmp_path} is a folder, where a file belongs." in stderr
    for command in ("build .", "build m.onnx -o ."):
        assert here(*command.split())[0] in (InputError.exit_code, OutputError.exit_code)


def failing_at(call: int, function: Callable[..., object], code: int) -> Callable[..., object]:
    """A function that raises OSError at its `call`th call."""
    calls: list[object] = []

    def wrapped(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(code, os.strerror(code))
        return function(*arguments)

    return wrapped


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_full_disk_leaves_all_three_files_of_a_build(call: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = place / "again.engine"
    build(place / "m.onnx", engine, FP16)
    before = snapshot(place)
    monkeypatch.setattr(os, "fsync", failing_at(call, os.fsync, errno.ENOSPC))
    with pytest.raises(OutputError, match="No space left on device"):
        build(place / "m.onnx", engine, BuildOptions(backend="tensorrt-rtx"))
    assert snapshot(place) == before


def test_a_failed_rename_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", failing_at(2, Path.replace, errno.EIO))
    with together() as files:
        for name in ("first", "second", "third"):
            files.write(tmp_path / name, b"1")
        with pytest.raises(OutputError, match=r"second could not be written: Input/output error"):
            files.replace()
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_manifests_and_results_are_about_the_bytes_that_were_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to the files while a command runs."""
    source = place / "m.onnx"
    original = sha256(source)

    def spoil(_: str) -> None:
        source.write_bytes(b"changed")

    result = build(source, place / "new.engine", FP16, spoil)
    assert sha256(source) != original
    assert result.manifest.source.sha256 == original

    def write_and_spoil(path: Path, data: bytes) -> None:
        write_bytes(path, data)
        path.write_bytes(b"changed")

    monkeypatch.setattr("rc_deploy.export.write_bytes", write_and_spoil)
    exported = export(place / "c.pt", place / "new.onnx")
    assert exported.sha256 == original


def test_a_manifest_that_cannot_be_written_is_found_before_the_images_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def unwritable(path: Path) -> None:
        asked.append(path)
        raise OutputError(f"{path} could not be written.", "")

    def run(*_: object) -> None:
        raise AssertionError("the images were run")

    monkeypatch.setattr("rc_deploy.validate.require_writable", unwritable)
    monkeypatch.setattr("rc_deploy.validate.run_chain", run)
    with pytest.raises(OutputError):
        validate(place / "small.fp16.engine", place / "c.pt", ValidateOptions("random:0"))
    assert asked == [place / "small.fp16.engine.json"]


def test_outputs_of_the_library_are_guarded_too(place: Path) -> None:
    before = snapshot(place)
    with pytest.raises(OutputError):
        export(place / "c.pt", place / "c.pt")
    with pytest.raises(OutputError):
        build(place / "m.onnx", place / "c.pt", FP16)
    with pytest.raises(OutputError):
        require_outputs([(place / "a", Kind.ONNX), (place / "." / "a", Kind.DOCUMENT)], [])
    assert snapshot(place) == before
