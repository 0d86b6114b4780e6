"""librc_ort in ONNX Runtime: every operator against float64, shapes, errors, and a whole network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch

import reference
from native_build import built_with_cuda
from rc_deploy import checkpoint, native
from rc_deploy.errors import UnsupportedError
from rc_deploy.graph.model import load
from rc_deploy.runners import OnnxRunner
from rc_deploy.tolerances import GCLU_ARITHMETIC, RC_ARITHMETIC, operator_bound
from rc_deploy.validate import ValidateOptions, validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = '<ir_version: 10, opset_import: ["": 20, "rc": 1]>\n'
RNG = np.random.default_rng(0)
A = RNG.normal(0, 2, (3, 5, 7, 9))
MU, LOG_VAR = RNG.normal(size=(2, 3, 5))
SHORTCUT = RNG.normal(size=A.shape)
EPSILON = 0.25
TYPES: dict[str, Any] = {"float": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
KINDS = tuple(TYPES)


@pytest.fixture
def session(ort_library: Path) -> Callable[..., Any]:
    def make(graph: str, threads: int = 1) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.register_custom_ops_library(str(ort_library))
        model = onnx.parser.parse_model(HEADER + graph)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    return make


def rounded(array: NDArray[Any], kind: str) -> NDArray[Any]:
    return array.astype(TYPES[kind])


def double(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.astype(np.float64)


def run(session: Any, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Y, of the type and shape of the first input. bfloat16 is no type of NumPy's own: ONNX Runtime gets its bits."""
    first = next(iter(feeds.values()))
    if first.dtype != ml_dtypes.bfloat16:
        found: NDArray[Any] = session.run(None, feeds)[0]
        assert (found.dtype, found.shape) == (first.dtype, first.shape)
        return found
    found, binding = np.full_like(first, np.nan), session.io_binding()

    def value(array: NDArray[Any]) -> Any:
        bits = array.view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, onnx.TensorProto.BFLOAT16)

    values = {name: value(array) for name, array in feeds.items()}
    for name in values:
        binding.bind_ortvalue_input(name, values[name])
    output = value(found)  # shares its memory
    binding.bind_ortvalue_output("Y", output)
    session.run_with_iobinding(binding)
    return found


def assert_within(
    found: NDArray[Any], exact: NDArray[np.float64], arithmetic: int, argument: Any, more: Any = 0.0
) -> None:
    """Hold a result against float64; `more` is what sums before the operator may be off."""
    dtype = "float32" if found.dtype == np.float32 else found.dtype.name
    bound = operator_bound(dtype, arithmetic, np.abs(np.asarray(argument, np.float64)), np.abs(exact)) + more
    assert found.shape == exact.shape
    assert np.all(np.abs(found.astype(np.float64) - exact) <= bound)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["none", "sigmoid", "tanh"])
def test_gclu(session: Any, kind: str, form: str) -> None:
    x = rounded(A, kind)
    made = session(f'g ({kind}[N, C, H, W] X) => ({kind}[N, C, H, W] Y) {{ Y = rc.GCLU <approximate = "{form}"> (X) }}')
    assert_within(run(made, {"X": x}), reference.gclu(x, form), GCLU_ARITHMETIC, x)


@pytest.mark.parametrize("kind", KINDS)
def test_response_calibration(session: Any, kind: str) -> None:
    a, mu, log_var = (rounded(array, kind) for array in (A, MU, LOG_VAR))
    made = session(
        f"g ({kind}[N, C, H, W] A, {kind}[N, C] M, {kind}[N, C] L) => ({kind}[N, C, H, W] Y) "
        f"{{ Y = rc.ResponseCalibration <epsilon = {EPSILON}> (A, M, L) }}"
    )
    exact = reference.response_calibration(a, mu, log_var, EPSILON)
    assert_within(run(made, {"A": a, "M": mu, "L": log_var}), exact, RC_ARITHMETIC, a)


@pytest.mark.parametrize("kind", KINDS)
def test_calibrated_residual(session: Any, kind: str) -> None:
    a, mu, log_var, shortcut = (rounded(array, kind) for array in (A, MU, LOG_VAR, SHORTCUT))
    made = session(
        f"g ({kind}[N, C, H, W] A, {kind}[N, C] M, {kind}[N, C] L, {kind}[N, C, H, W] S) => ({kind}[N, C, H, W] Y) "
        f"{{ Y = rc.CalibratedResidual <epsilon = {EPSILON}> (A, M, L, S) }}"
    )
    exact = np.maximum(reference.response_calibration(a, mu, log_var, EPSILON) + shortcut.astype(np.float64), 0)
    found = run(made, {"A": a, "M": mu, "L": log_var, "S": shortcut})
    assert_within(found, exact, RC_ARITHMETIC + 2, double(np.abs(a)) + double(np.abs(shortcut)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [0, 1, 3, 9])
def test_calibrated_tail(session: Any, kind: str, batch: int) -> None:
    a = rounded(RNG.normal(0, 2, (batch, 5, 7, 9)), kind)
    shortcut = rounded(RNG.normal(size=a.shape), kind)
    weights = [rounded(RNG.normal(0, 0.5, shape), kind) for shape in ((2, 5), (2,), (10, 2), (10,))]
    made = session(
        f"g ({kind}[N, 5, H, W] A, {kind}[N, 5, H, W] S, {kind}[2, 5] P, {kind}[2] Q, {kind}[10, 2] R, {kind}[10] T) "
        f"=> ({kind}[N, 5, H, W] Y) {{ Y = rc.CalibratedTail <epsilon = {EPSILON}> (A, S, P, Q, R, T) }}"
    )
    planes, added = (double(array).reshape(batch, 5, 63) for array in (a, shortcut))
    exact, off = reference.calibrated_tail(planes, added, [double(weight) for weight in weights], EPSILON)
    found = run(made, {"A": a, "S": shortcut, **dict(zip("PQRT", weights, strict=True))})
    argument = double(np.abs(a)) + double(np.abs(shortcut))
    assert_within(found, exact.reshape(a.shape), RC_ARITHMETIC + 2, argument, off.reshape(a.shape))


def test_cuda_kernels_leave_the_cpu_its_own(ort_library: Path, tmp_path: Path) -> None:
    """A session without a CUDA provider passes over the kernels for one."""
    built_with_cuda("rc_ort_cuda_tests.flags")
    model = onnx.parser.parse_model(HEADER + "g (float[N] X) => (float[N] Y) { Y = rc.GCLU (X) }")
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    options.register_custom_ops_library(str(ort_library))
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made.run(None, {"X": np.ones(3, np.float32)})
    events = json.loads(Path(made.end_profiling()).read_text())
    ran = [(event["args"]["op_name"], event["args"]["provider"]) for event in events if event["cat"] == "Node"]
    assert ran == [("GCLU", "CPUExecutionProvider")]


def test_several_threads(session: Any) -> None:
    """Tensors of many pieces, which ONNX Runtime's threads share."""
    x = RNG.normal(0, 2, 300_001).astype(np.float32)
    made = session("g (float[N] X) => (float[N] Y) { Y = rc.GCLU (X) }", threads=3)
    assert_within(run(made, {"X": x}), reference.gclu(x), GCLU_ARITHMETIC, x)
    a = RNG.normal(0, 2, (2, 3, 50_001)).astype(np.float32)
    mu, log_var = RNG.normal(size=(2, 2, 3)).astype(np.float32)
    made = session(
        "g (float[N, C, L] A, float[N, C] M, float[N, C] V) => (Y) { Y = rc.ResponseCalibration (A, M, V) }", 3
    )
    exact = reference.response_calibration(a, mu, log_var)
    assert_within(run(made, {"A": a, "M": mu, "V": log_var}), exact, RC_ARITHMETIC, a)


def test_symbolic_dimensions_reach_the_output(session: Any) -> None:
    """The output's shape is left to inference, and has the input's names and sizes."""
    made = session("g (float[batch, 8, H, W] X) => (Y) { Y = rc.GCLU (X) }")
    assert made.get_outputs()[0].shape == ["batch", 8, "H", "W"]
    assert made.get_outputs()[0].type == "tensor(float)"
    made = session("g (float[N, C] A, float[N, C] M) => (Y) { Y = rc.ResponseCalibration (A, M, M) }")
    assert made.get_outputs()[0].shape == ["N", "C"]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ('Y = rc.GCLU <approximate = "erf"> (X)', r"rc\.GCLU: approximate is 'erf'; it must be none, sigmoid or tanh"),
        ("Y = rc.GCLU <approximate = 2> (X)", r"rc\.GCLU: approximate must be an attribute of type STRING"),
        ('Y = rc.GCLU <approximate = ["tanh"]> (X)', r"approximate must be an attribute of type STRING"),
        *(
            (f"Y = rc.ResponseCalibration <epsilon = {value}> (X, M, M)", "epsilon must be an attribute of type FLOAT")
            for value in ("1", "[1.0]", "[1]", '"1"', "float[1] {1.0}")
        ),
        *(
            (f"Y = rc.CalibratedResidual <epsilon = {value}> (X, M, M, X)", rf"epsilon is {words}; it must be positive")
            for value, words in (("0.0", "0"), ("-1e-9", "-1e-09"), ("inf", "inf"))
        ),
        ("Y = rc.ResponseCalibration (X, X, M)", r"Mu has shape \(2, 3, 4\) where A's shape asks for \(2, 3\)"),
        ("Y = rc.CalibratedResidual (X, M, M, M)", r"Shortcut has shape \(2, 3\) where A's"),
        ("Y = rc.CalibratedTail (X, X, M, M, M, M)", r"B1 has shape \(2, 3\) where A's shape asks for \(2\)"),
    ],
)
def test_what_is_wrong_is_said(session: Any, node: str, words: str) -> None:
    feeds = {"X": np.ones((2, 3, 4), np.float32), "M": np.ones((2, 3), np.float32)}
    with pytest.raises(Exception, match=words):
        session(f"g (float[2, 3, 4] X, float[2, 3] M) => (float[2, 3, 4] Y) {{ {node} }}").run(None, feeds)


def test_an_epsilon_that_has_no_reciprocal_gives_no_nan(session: Any) -> None:
    """std = 0: where A = Mu the weight is 1/2, elsewhere 0."""
    made = session("g (float[N, C, L] A, float[N, C] M, float[N, C] V) => (Y) "
                   "{ Y = rc.ResponseCalibration <epsilon = 1e-40> (A, M, V) }")  # fmt: skip
    feeds = {"A": np.array([[[2, 1]]]), "M": np.array([[2]]), "V": np.array([[-np.inf]])}
    found = run(made, {name: array.astype(np.float32) for name, array in feeds.items()})
    np.testing.assert_array_equal(found, [[[3, 1]]])


def test_double_is_refused(session: Any) -> None:
    with pytest.raises(Exception, match=r"Type 'tensor\(double\)'"):
        session("g (double[N] X) => (double[N] Y) { Y = rc.GCLU (X) }")


def logits(model: Path, images: NDArray[np.float32], library: Path | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(native.VARIABLE, str(library.parent) if library else "")
    with OnnxRunner(load(model)) as runner:
        assert ("librc_ort" in runner.name) == (library is not None)
        return runner.run(images)


def test_whole_network(
    small_checkpoint: Path, small_onnx: Path, ort_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Library, bodies, PyTorch and PyTorch in float64 agree on the logits of a ResCNet with GCLU."""
    images = RNG.normal(size=(16, 3, 16, 16)).astype(np.float32)
    network = checkpoint.load(small_checkpoint).module()
    with torch.inference_mode():
        eager = network(torch.from_numpy(images)).numpy()
        exact = network.double()(torch.from_numpy(images).double()).numpy()
    by_library = logits(small_onnx, images, ort_library, monkeypatch)
    by_bodies = logits(small_onnx, images, None, monkeypatch)
    scale = np.abs(exact).max()
    for name, value in (("library", by_library), ("bodies", by_bodies), ("PyTorch", eager)):
        assert np.abs(value - exact).max() <= 2e-5 * scale, name
    # They are three computations, not one: the library was really used.
    assert not np.array_equal(by_library, by_bodies)


def test_a_library_that_is_none_is_refused_in_words(
    small_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "librc_ort.so").write_bytes(b"not a library")
    monkeypatch.setenv(native.VARIABLE, str(tmp_path))
    with pytest.raises(UnsupportedError, match=r"ONNX Runtime refuses .*librc_ort\.so"), OnnxRunner(load(small_onnx)):
        pass


NATIVE = "largest error of a logit, native kernels"


def failures(artefact: Path, reference: Path) -> list[str]:
    """The criteria of a validation that are not met, of which one is about the kernels."""
    outcome = validate(artefact, reference, ValidateOptions("random:3", stress=False))
    assert NATIVE in [criterion.name for criterion in outcome.criteria]
    return [criterion.name for criterion in outcome.criteria if not criterion.passed]


def test_validation_judges_bodies_and_kernels(
    small_checkpoint: Path, small_onnx: Path, ort_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.VARIABLE, str(ort_library.parent))
    assert failures(small_onnx, small_checkpoint) == []

    model = onnx.load(small_onnx)
    for function in model.functions:
        for node in function.node:
            if node.op_type == "Add" and "calibration" in node.input:
                node.op_type = "Sub"
    onnx.save(model, tmp_path / "wrong_bodies.onnx")
    found = failures(tmp_path / "wrong_bodies.onnx", small_checkpoint)
    assert found == ["largest error of a logit", "mean error of a logit"]

    right = OnnxRunner.run

    def wrong(self: OnnxRunner, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return right(self, images) * np.float32(1.01 if "librc_ort" in self.name else 1)

    monkeypatch.setattr(OnnxRunner, "run", wrong)
    assert failures(small_onnx, small_checkpoint) == [NATIVE]
