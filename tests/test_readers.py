"""Other people's readers accept what rc-deploy writes: onnx.checker, ONNX Runtime, Polygraphy, Netron's fields."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from conftest import SPEC
from rc_deploy import native
from rc_deploy.assignment import PrecisionOptions, assign
from rc_deploy.export import export
from rc_deploy.files import digest
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.emulate import emulated
from rc_deploy.runners import register
from rc_deploy.specs import Calibration, CalibrationMethod, Precision

# Every precision that `build` writes; `test_every_precision_is_read` sees one that is missing here.
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8, Precision.FP8)


@pytest.fixture(scope="session", params=PRECISIONS, ids=str)
def written(request: pytest.FixtureRequest, small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as `build` writes its typed ONNX, in each precision; fp32 is the exported file itself."""
    precision: Precision = request.param
    if precision is Precision.FP32:
        return small_onnx
    path = tmp_path_factory.mktemp("typed") / f"small.{precision}.onnx"
    calibration = Calibration("random:0", 16, CalibrationMethod.MINMAX) if precision.quantised else None
    model = assign(onnx.load(small_onnx), PrecisionOptions(precision, calibration=calibration), "small.onnx").graph
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


@pytest.fixture(scope="session")
def runnable(written: Path) -> Path:
    """The same as ONNX Runtime's CPU kernels can run it: they have no bfloat16 convolution."""
    model = onnx.load(written)
    form = emulated(model)
    if form is model:
        return written
    path = written.with_suffix(".emulated.onnx")
    onnx.save(form, path)
    return path


def test_every_precision_is_read() -> None:
    assert set(PRECISIONS) == set(Precision)


def test_onnx_checker(written: Path) -> None:
    onnx.checker.check_model(str(written), full_check=True)


@pytest.mark.parametrize("library", [False, True])
def test_onnx_runtime(runnable: Path, library: bool) -> None:
    options = onnxruntime.SessionOptions()
    if library:
        path = native.onnx_runtime_library()
        if path is None:
            pytest.skip("librc_ort is not built here")
        register(options, path)
    session = onnxruntime.InferenceSession(str(runnable), options, providers=["CPUExecutionProvider"])
    images = np.zeros((2, *SPEC.shape), np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()
    # What ONNX Runtime says of the model is what Netron shows.
    assert session.get_modelmeta().producer_name == "rc-deploy"
    assert "rc_deploy" in session.get_modelmeta().custom_metadata_map


def polygraphy(*arguments: object) -> str:
    """Run Polygraphy's command line; return what it says."""
    script = "import sys; from polygraphy.tools import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_polygraphy_inspects(written: Path) -> None:
    shown = polygraphy("inspect", "model", written, "--show", "layers")
    assert "Name: rescnet8 | ONNX Opset:" in shown
    assert re.search(r"input \[dtype=float32, shape=\('batch', 3, 16, 16\)\]", shown)
    assert re.search(r"logits \[dtype=float32, shape=\('batch', 10\)\]", shown)
    assert f"{len(onnx.load(written).graph.node)} Node(s)" in shown
    assert "Op: GCLU" in shown


def test_polygraphy_runs(runnable: Path) -> None:
    shown = polygraphy("run", "--onnxrt", runnable, "--input-shapes", "input:[2,3,16,16]")
    assert "PASSED" in shown
    assert "logits [dtype=float32, shape=(2, 10)]" in shown


def test_polygraphy_refuses_what_is_broken(small_onnx: Path, tmp_path: Path) -> None:
    """So that the two tests before can fail."""
    model = onnx.load(small_onnx)
    del model.functions[:]
    onnx.save(model, tmp_path / "bodiless.onnx")
    with pytest.raises(AssertionError, match="GCLU"):
        polygraphy("run", "--onnxrt", tmp_path / "bodiless.onnx", "--input-shapes", "input:[2,3,16,16]")


def test_what_viewers_show(written: Path) -> None:
    model = onnx.load(written)
    precision = onnx_model.provenance(model, "model").precision
    assert (model.producer_name, model.model_version, model.graph.name) == ("rc-deploy", 1, "rescnet8")
    assert model.producer_version == onnx_model.provenance(model, "model").version
    assert f"rescnet8(activation=gclu, num_classes=10) in {precision}" in model.doc_string
    assert "3x16x16 images into 10 classes" in model.doc_string
    assert model.graph.doc_string == model.doc_string
    (given,), (found,) = model.graph.input, model.graph.output
    assert "less the channels' mean (0.5, 0.4, 0.3)" in given.doc_string
    assert "standard deviation (0.25, 0.2, 0.3)" in given.doc_string
    assert "Logits (N, 10)" in found.doc_string
    assert "the classes are a, b, c, d, e, f, g, h, i, j." in found.doc_string
    assert "rc_deploy" in {entry.key for entry in model.metadata_props}


def test_no_file_names_a_place_or_a_time(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copy(small_checkpoint, tmp_path / "another name.pt")
    export(Path(elsewhere), tmp_path / "again.onnx")
    content = (tmp_path / "again.onnx").read_bytes()
    assert digest(content) == digest(small_onnx.read_bytes())
    assert str(tmp_path).encode() not in content
    assert str(Path.home()).encode() not in content
