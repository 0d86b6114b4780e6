"""What a build can be asked for besides its precision: shapes, targets, caches, and what a library cannot do."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from rc_deploy import checkpoint, manifest
from rc_deploy.engine import BuildOptions, build, library, timing_cache
from rc_deploy.engine.addresses import fixed_addresses
from rc_deploy.engine.library import FEATURES, LIBRARIES, Loaded, targets
from rc_deploy.engine.timing_cache import Key
from rc_deploy.errors import InputError, OutputError, UnsupportedError
from rc_deploy.files import sha256
from rc_deploy.gpu import Driver, Gpu
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.resolution import ImageSize, resized
from rc_deploy.runners import OnnxRunner
from rc_deploy.specs import BatchRange, Precision

FP16 = BuildOptions(precision=Precision.FP16, backend="tensorrt-rtx", compute_capabilities=("8.6",))
TENSORRT, RTX = LIBRARIES["tensorrt"], LIBRARIES["tensorrt-rtx"]
KEY = Key("tensorrt", "11.1.0", "H200, compute capability 9.0")
# What two builds of one file differ in.
TIMES = {"created", "seconds"}


def addresses_are_fixed() -> bool:
    """Whether this system lets a process have the same addresses each time."""
    where = [sys.executable, "-c", "import ctypes; print(ctypes.cast(ctypes.CDLL(None).malloc, ctypes.c_void_p).value)"]
    with fixed_addresses():
        found = [subprocess.run(where, capture_output=True, check=True).stdout for _ in range(2)]
    return found[0] == found[1]


def built_twice(source: Path, folder: Path) -> tuple[list[Path], set[str]]:
    """Build a file twice; return the engines, and the keys that their manifests differ in."""
    engines, documents = [], []
    for name in ("one", "two"):
        (folder / name).mkdir()
        engines.append(build(source, folder / name / "m.engine", FP16).engine)
        documents.append(json.loads(manifest.path_for(engines[-1]).read_text()))
    assert documents[0].keys() == documents[1].keys()
    assert documents[0]["engine"]["name"] == documents[1]["engine"]["name"]
    return engines, {key for key in documents[0] if documents[0][key] != documents[1][key]}


def test_the_same_build_twice_differs_in_time_alone(small_onnx: Path, tmp_path: Path) -> None:
    engines, differing = built_twice(small_onnx, tmp_path)
    one, two = (engine.with_suffix(".onnx").read_bytes() for engine in engines)
    assert one == two
    assert differing <= TIMES | (set() if addresses_are_fixed() else {"engine"})


def test_neither_folder_nor_environment_shows_in_an_engine(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not addresses_are_fixed():
        pytest.skip("this system draws addresses at random")
    engines = set()
    for place, padding in (("a", 0), ("another folder with a longer name", 0), ("a", 1000), ("a", 60_000)):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setenv("PADDING", "x" * padding)
        engines.add(sha256(build(small_onnx, tmp_path / "m.engine", FP16).engine))
    assert len(engines) == 1


def test_without_fixed_addresses_the_engines_bytes_may_differ_too_and_nothing_else(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose restrictions forbid them."""
    monkeypatch.setattr("rc_deploy.engine.process.fixed_addresses", nullcontext)
    engines, differing = built_twice(small_onnx, tmp_path)
    assert differing <= TIMES | {"engine"}
    assert len({engine.stat().st_size for engine in engines}) == 1


def test_addresses_are_random_again_afterwards() -> None:
    personality = ctypes.CDLL(None).personality
    before = personality(0xFFFFFFFF)
    with fixed_addresses():
        assert personality(0xFFFFFFFF) in (before, before | 0x0040000)
    assert personality(0xFFFFFFFF) == before


def test_a_profile_for_each_batch(small_onnx: Path, tmp_path: Path, here: Callable[..., tuple[object, str]]) -> None:
    asked = ("--batch", "1", "--batch", "4:8:16", "--compute-capability", "8.9,8.6")
    code, stderr = here("build", small_onnx, "--fp16", "-o", tmp_path / "m.engine", *asked)
    assert code == 0, stderr
    record = manifest.read(tmp_path / "m.engine")
    assert record.batch == "1:1:1,4:8:16"
    assert record.compute_capabilities == ["8.6", "8.9"]
    single = build(small_onnx, tmp_path / "s.engine", replace(FP16, compute_capabilities=("8.6", "8.9")))
    assert (tmp_path / "m.engine").stat().st_size > 1.5 * single.engine.stat().st_size


def test_a_profile_asked_for_twice(small_onnx: Path, tmp_path: Path) -> None:
    twice = replace(FP16, batch=(BatchRange(1, 8, 64), BatchRange(1, 8, 64)))
    with pytest.raises(InputError, match="1:8:64 twice"):
        build(small_onnx, tmp_path / "m.engine", twice)


def test_another_image_size(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    """PyTorch's network, given images of that size, computes what the changed graph computes."""
    result = build(small_onnx, tmp_path / "m.engine", replace(FP16, image=ImageSize(24, 40)))
    typed = onnx_model.load(result.typed_onnx)
    assert onnx_model.provenance(typed, "typed").input.shape == (3, 24, 40)
    changed = resized(onnx_model.load(small_onnx), ImageSize(24, 40), "small")
    onnx_model.check(changed, "changed")
    images = np.random.default_rng(0).normal(size=(3, 3, 24, 40)).astype(np.float32)
    with OnnxRunner(changed, bodies=True) as runner:
        found = runner.run(images)
    with torch.no_grad():
        expected = checkpoint.load(small_checkpoint).module()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_own_size_changes_nothing(small_onnx: Path) -> None:
    model = onnx_model.load(small_onnx)
    assert resized(model, ImageSize(16, 16), "small") is model


def fixed(name: str, tail: str, small_onnx: Path) -> onnx.ModelProto:
    """Return a network made for 8x8 images, with the metadata of the small one."""
    text = f"""
        <ir_version: 10, opset_import: ["" : 20]>
        {name} (float[N, 3, 8, 8] images) => (float[N, 10] logits)
        <float[192, 10] W = {{{", ".join(["0.5"] * 1920)}}}, int64[2] rows = {{-1, 192}}, float[3, 10] V =
         {{{", ".join(["0.5"] * 30)}}}, int64[2] channels = {{-1, 3}}>
        {{ {tail} }}
    """
    model = onnx.parser.parse_model(text)
    provenance = onnx_model.provenance(onnx_model.load(small_onnx), "small")
    onnx_model.set_provenance(model, replace(provenance, input=replace(provenance.input, shape=(3, 8, 8))))
    return model


@pytest.mark.parametrize(
    "tail",
    [
        "flat = Flatten (images) logits = MatMul (flat, W)",
        "flat = Reshape (images, rows) logits = MatMul (flat, W)",  # -1 would make four images of one
        "pool = AveragePool <kernel_shape = [8, 8]> (images) flat = Reshape (pool, channels) logits = MatMul (flat, V)",
    ],
    ids=["flattened", "reshaped", "pooled by a fixed size"],
)
def test_networks_of_one_size_are_refused(tail: str, small_onnx: Path) -> None:
    model = fixed("net", tail, small_onnx)
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(UnsupportedError, match="takes images of 8x8 only"):
        resized(model, ImageSize(16, 16), "net")


@pytest.mark.parametrize("text", ["", "0", "0x4", "4x", "axb", "10000", "3x4x5", "-1"])
def test_sizes_without_sense(text: str) -> None:
    with pytest.raises(InputError, match="not the size of an image"):
        ImageSize.parse(text)
    assert ImageSize.parse("24x40") == ImageSize(24, 40)
    assert ImageSize.parse("24") == ImageSize(24, 24)


def test_unknown_targets_are_refused_by_name(small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not build for compute capability 9\.0, 1\.x\.") as caught:
        build(small_onnx, tmp_path / "m.engine", replace(FP16, compute_capabilities=("9.0", "8.6", "1.x")))
    assert caught.value.hint == "It offers 7.5, 8.0, 8.6, 8.9, 12.0, 12.1."


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = Loaded.of(pytest.importorskip("tensorrt_rtx"))
    assert targets(RTX, rtx) == ("8.0", "8.6", "8.9", "12.0", "12.1")
    assert targets(RTX, rtx, ("12.0", "7.5")) == ("7.5", "12.0")
    monkeypatch.setattr("rc_deploy.gpu.driver", lambda: Driver("13.0", (Gpu("H200", "9.0"), Gpu("H200", "9.0"))))
    assert targets(TENSORRT, Loaded("10.13.0", ())) == ("9.0",)
    assert "9.0" in targets(TENSORRT, Loaded("10.13.0", ()), hardware_compatible=True)
    assert "8.0" in targets(TENSORRT, Loaded("10.13.0", ()), hardware_compatible=True)


@pytest.mark.parametrize("name", FEATURES)
def test_what_tensorrt_rtx_cannot_do_is_refused(name: str, small_onnx: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {"timing_cache": tmp_path / "cache", "compute_capabilities": ("8.6",)}
    options = replace(FP16, **{name: values.get(name, True)})
    if name == "compute_capabilities":
        assert build(small_onnx, tmp_path / "m.engine", options).manifest.compute_capabilities == ["8.6"]
        return
    with pytest.raises(UnsupportedError) as caught:
        build(small_onnx, tmp_path / "m.engine", options)
    assert FEATURES[name].option in str(caught.value)
    assert "--backend tensorrt" in caught.value.hint or "with a GPU" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_what_tensorrt_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="TensorRT has no --compute-capability") as caught:
        library.require_features(TENSORRT, ["compute_capabilities"])
    assert "build with TensorRT-RTX: --backend tensorrt-rtx" in caught.value.hint
    library.require_features(TENSORRT, [name for name in FEATURES if name != "compute_capabilities"])
    monkeypatch.setattr("rc_deploy.gpu.driver", lambda: Driver("13.0", (Gpu("RTX 4090", "8.9"),)))
    library.require_features(RTX, ["strip_weights", "refittable"])


class TestTimingCache:
    """The file around the library's own bytes."""

    def test_it_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "cache"
        assert timing_cache.read(path, KEY) == (b"", "")
        timing_cache.write(path, KEY, b"measured\n\x00")
        assert timing_cache.read(path, KEY) == (b"measured\n\x00", "")

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            (
                replace(KEY, version="10.13.0"),
                "is of tensorrt 11.1.0 on H200, compute capability 9.0, not of",
            ),
            (replace(KEY, gpu="RTX 4090"), "not of tensorrt 11.1.0 on RTX 4090"),
            (replace(KEY, library="tensorrt-rtx"), "not of tensorrt-rtx"),
        ],
    )
    def test_anothers_is_not_used(self, other: Key, words: str, tmp_path: Path) -> None:
        timing_cache.write(tmp_path / "cache", KEY, b"measured")
        measured, problem = timing_cache.read(tmp_path / "cache", other)
        assert measured == b""
        assert words in problem

    def test_no_changed_byte_reaches_the_library(self, tmp_path: Path) -> None:
        path = tmp_path / "cache"
        timing_cache.write(path, KEY, b"measured")
        content = path.read_bytes()
        for index in range(len(content)):
            changed = bytearray(content)
            changed[index] ^= 1
            path.write_bytes(changed)
            measured, problem = timing_cache.read(path, KEY)
            assert measured == b""
            assert problem
        for length in range(1, len(content)):
            path.write_bytes(content[:length])
            assert timing_cache.read(path, KEY)[0] == b""

    def test_setting_aside_loses_nothing(self, tmp_path: Path) -> None:
        for number in range(3):
            (tmp_path / "cache").write_text(str(number))
            timing_cache.set_aside(tmp_path / "cache")
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
            "cache.old": "0", "cache.old2": "1", "cache.old3": "2",
        }  # fmt: skip

    def test_it_replaces_no_artefact(self, small_onnx: Path, tmp_path: Path) -> None:
        for taken in (small_onnx, tmp_path / "m.engine"):
            with pytest.raises(OutputError, match="overwrite|would replace"):
                build(small_onnx, tmp_path / "m.engine", replace(FP16, timing_cache=taken))


def test_a_folder_is_no_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As plugins/tensorrt is, or type stubs."""
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert library.unavailable(TENSORRT) == "it is not installed"
