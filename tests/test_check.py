"""Check: whether a machine can run an engine, on machines of other kinds than this one; nothing is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rc_deploy import manifest, native
from rc_deploy.check import EngineCheck, check, machine_checks, require_all, require_runnable
from rc_deploy.engine import library
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.files import sha256
from rc_deploy.gpu import Driver, Gpu
from rc_deploy.manifest import FileRecord, Manifest

RTX_4090 = Gpu("RTX 4090", "8.9")
FITTING = Driver("13.0", (RTX_4090,))
Pretend = Callable[..., None]


@pytest.fixture
def engine(small_engine: Path, tmp_path: Path) -> Path:
    """A copy of the small engine with all that lies beside it."""
    for name in (small_engine.name, manifest.path_for(small_engine).name, small_engine.with_suffix(".onnx").name):
        shutil.copy(small_engine.with_name(name), tmp_path)
    return tmp_path / small_engine.name


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, small_engine: Path) -> Pretend:
    """Pretend another machine; without arguments one that runs the small engine."""
    built_with = manifest.read_alone(small_engine).backend["version"]

    def pretend(
        version: str | None = built_with,
        driver: Driver = FITTING,
        here: str = "linux-x86_64",
        cuda: int | None = 13,
        pycuda: bool = True,
    ) -> None:
        installed = {"pycuda": pycuda}
        monkeypatch.setattr("rc_deploy.check.is_installed", lambda name: installed.get(name, version is not None))
        monkeypatch.setattr(library, "version", lambda _: version)
        monkeypatch.setattr("rc_deploy.gpu.driver", lambda: driver)
        monkeypatch.setattr("rc_deploy.manifest.this_platform", lambda: here)
        monkeypatch.setattr("rc_deploy.check.cuda_of", lambda _: cuda)

    pretend()
    return pretend


def change(engine: Path, **changes: Any) -> None:
    path = manifest.path_for(engine)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def failures(outcome: EngineCheck) -> dict[str, str]:
    """Return what does not work, with detail and remedy; each says what to do."""
    failed = [item for item in outcome.checks if not item.works]
    assert all(item.remedy for item in failed)
    return {item.name: f"{item.detail} | {item.remedy}" for item in failed}


def test_an_engine_on_its_machine(engine: Path, machine: Pretend) -> None:
    outcome = check(engine)
    assert outcome.runnable
    assert [item.name for item in outcome.checks] == ["files", "platform", "library", "driver", "GPU"]
    assert require_runnable(engine) == manifest.read(engine)


@pytest.mark.parametrize(
    ("pretended", "name", "words"),
    [
        ({"version": None}, "library", ("is not installed", "pip install 'rc-deploy[rtx]'")),
        ({"pycuda": False}, "PyCUDA", ("is not installed", "pip install 'rc-deploy[gpu]'")),
        ({"version": "1.4.0.76"}, "library", ("1.4.0.76 is installed", "Build the engine again")),
        ({"driver": Driver("12.8", (RTX_4090,))}, "driver", ("CUDA 12.8", "13.0 or later", "Update NVIDIA's driver")),
        ({"driver": Driver("13.0", (Gpu("H200", "9.0"),))}, "GPU", ("8.9", "H200", "Build the engine again for 9.0")),
        ({"driver": Driver("13.0", (), "the NVIDIA driver finds no GPU")}, "GPU", ("finds no GPU", "NVIDIA GPU")),
        ({"here": "linux-aarch64"}, "platform", ("built on linux-x86_64; this is linux-aarch64", "Build the engine")),
    ],
)
def test_what_does_not_fit(
    pretended: dict[str, Any], name: str, words: tuple[str, ...], engine: Path, machine: Pretend
) -> None:
    machine(**pretended)
    found = failures(check(engine))
    assert list(found) == [name]
    assert all(word in found[name] for word in words), found
    with pytest.raises(UnsupportedError, match=f"cannot run here: {name}: ") as caught:
        require_runnable(engine)
    assert caught.value.hint


def test_every_reason_is_given_at_once(engine: Path, machine: Pretend) -> None:
    machine(version=None, driver=Driver(None, (), "no NVIDIA driver is installed"), here="win32-AMD64")
    assert list(failures(check(engine))) == ["platform", "library", "GPU"]
    machine(driver=Driver(None, (), "no NVIDIA driver is installed"))
    assert list(failures(check(engine))) == ["driver", "GPU"]


def test_a_library_that_cannot_be_loaded(engine: Path, machine: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(library, "version", broken)
    assert "libcudart.so.13" in failures(check(engine))["library"]


@pytest.mark.parametrize("spoiled", ["engine", "onnx", "first byte"])
def test_other_bytes_than_were_built(spoiled: str, engine: Path, machine: Pretend) -> None:
    target = engine.with_suffix(".onnx") if spoiled == "onnx" else engine
    content = bytearray(target.read_bytes())
    content[0 if spoiled == "first byte" else len(content) // 2] ^= 1
    target.write_bytes(content)
    assert "its SHA-256 differs" in failures(check(engine))["files"]
    with pytest.raises(InputError, match="its SHA-256 differs"):
        require_runnable(engine)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ('{"format": "other"}', "is not the manifest of an engine"),
        ('{"format": "rc-deploy/engine", "format_version": 2}', "'engine' is missing"),
        ('{"format": "rc-deploy/engine", "format_version": [2]}', "of version [2]; this rc-deploy reads version 2"),
    ],
)
def test_manifests_that_cannot_be_read(text: str, words: str, engine: Path, machine: Pretend) -> None:
    manifest.path_for(engine).write_text(text)
    outcome = check(engine)
    assert outcome.record is None
    assert words in failures(outcome)["manifest"]


def test_an_earlier_manifest_names_the_command_that_builds_again(engine: Path, machine: Pretend) -> None:
    change(engine, format_version=1)
    assert f"rc-deploy build small.onnx --fp16 -o {engine}" in failures(check(engine))["manifest"]
    change(engine, source={"name": "a b.onnx; rm -rf /"}, precision={"asked": "fp16"})
    assert "rc-deploy build 'a b.onnx; rm -rf /' --fp16" in failures(check(engine))["manifest"]
    change(engine, source=7)
    assert "rc-deploy build MODEL.onnx" in failures(check(engine))["manifest"]


def test_what_is_no_engine(small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an ONNX file, not an engine"):
        check(small_onnx)
    with pytest.raises(InputError, match="There is no engine"):
        check(tmp_path / "m.engine")


@pytest.fixture
def record(small_engine: Path) -> Manifest:
    return manifest.read_alone(small_engine)


def of(record: Manifest, name: str) -> bool:
    (found,) = (item for item in machine_checks(record) if item.name == name)
    return found.works


@pytest.mark.parametrize(
    ("built", "installed", "compatible", "runs"),
    [
        ("10.13.0.35", "10.13.0.35", False, True),
        ("10.13.0.35", "10.13.2.6", False, False),
        ("10.13.0.35", "10.14.1.48", True, True),
        ("10.13.0.35", "10.12.0.36", True, False),
        ("10.13.0.35", "11.0.0.1", True, True),
        ("10.13.0.35", "12.0.0.1", True, False),
        ("10.13.0.35", "11.0.0.1", False, False),
        ("not a version", "11.0.0.1", True, False),
    ],
)
def test_version_compatible_engines(
    built: str, installed: str, compatible: bool, runs: bool, record: Manifest, machine: Pretend
) -> None:
    machine(version=installed)
    backend = {"name": "tensorrt", "version": built}
    options = record.options | {"version_compatible": compatible}
    assert of(replace(record, backend=backend, options=options), "library") is runs


def test_hardware_compatible_engines(record: Manifest, machine: Pretend) -> None:
    compatible = replace(record, options=record.options | {"hardware_compatible": True})
    for capability, runs in (("9.0", True), ("7.5", False)):
        machine(driver=Driver("13.0", (Gpu("A GPU", capability),)))
        assert of(compatible, "GPU") is runs
        assert of(record, "GPU") is False


def test_one_fitting_gpu_of_several_is_enough(record: Manifest, machine: Pretend) -> None:
    machine(driver=Driver("13.0", (Gpu("H200", "9.0"), RTX_4090)))
    assert of(record, "GPU")


def test_unknown_backends(record: Manifest, machine: Pretend) -> None:
    assert not of(replace(record, backend={"name": "openvino", "version": "1"}), "library")


def test_plugins(record: Manifest, machine: Pretend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, str(tmp_path))
    path = tmp_path / "librc_trt.so"
    path.write_bytes(b"a library")
    wanting = replace(record, plugins=[FileRecord(path.name, sha256(path))])
    assert of(wanting, "plugin librc_trt.so")
    path.write_bytes(b"another")
    outcome = EngineCheck(Path("m.engine"), wanting, machine_checks(wanting))
    assert "is not the library that the engine was built with" in failures(outcome)["plugin librc_trt.so"]
    path.unlink()
    assert not of(wanting, "plugin librc_trt.so")
    monkeypatch.setenv(native.VARIABLE, "")
    with pytest.raises(UnsupportedError, match=r"plugin librc_trt\.so: it is not there"):
        require_all(EngineCheck(Path("m.engine"), wanting, machine_checks(wanting)))


def test_plugins_are_names_not_places(record: Manifest, machine: Pretend, tmp_path: Path) -> None:
    """A manifest from a stranger makes nobody read, let alone load, a file somewhere else."""
    path = tmp_path / "evil.so"
    path.write_bytes(b"a library")
    for name in (str(path), f"../{tmp_path.name}/evil.so", "..", ""):
        wanting = replace(record, plugins=[FileRecord(name, sha256(path))])
        assert not of(wanting, f"plugin {name}")


def test_the_command(engine: Path, machine: Pretend, here: Callable[..., Any], tmp_path: Path) -> None:
    code, _ = here("check", engine, "--json", tmp_path / "check.json")
    document = json.loads((tmp_path / "check.json").read_text())
    assert (code, document["runnable"], document["sha256"]) == (0, True, sha256(engine))
    machine(version=None)
    code, stderr = here("check", engine, "--json", tmp_path / "check.json")
    assert code == UnsupportedError.exit_code
    assert "cannot run here: library: TensorRT-RTX" in stderr
    assert json.loads((tmp_path / "check.json").read_text())["runnable"] is False
