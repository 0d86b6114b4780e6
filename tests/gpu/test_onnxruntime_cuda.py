"""librc_ort's CUDA kernels in ONNX Runtime on a device, against float64.

Not yet run on a GPU: see docs/gpu-status.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import reference
from bounds import assert_within, gclu_bound
from conftest import SPEC, randomised
from native_build import built_with_cuda, tree
from rc_deploy import checkpoint, loading, models, tolerances
from rc_deploy.condition import condition
from rc_deploy.export import export
from rc_deploy.graph.fuse import fused
from rc_deploy.graph.model import load
from rc_deploy.graph.precision import typed
from rc_deploy.schema import APPROXIMATIONS, OPERATORS
from rc_deploy.specs import Precision
from rc_deploy.tolerances import RC_ARITHMETIC, operator_bound

if TYPE_CHECKING:
    from onnx import ModelProto

PROVIDER, DEVICE = "CUDAExecutionProvider", "cuda"
# Sums of float32 products, one way to compute them: what the tolerances are derived for.
PROVIDER_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
HEADER = '<ir_version: 10, opset_import: ["": 20, "rc": 1]>\n'
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CODES = {"float32": 1, "float16": 10, "bfloat16": 16}  # ONNX's
# (N, C, L), hidden: none at all, one element, odd sizes, ResCNet-32's stages, and samples that no shared memory holds:
# their tails take three kernels, which pass on what they computed in ONNX Runtime's memory.
SHAPES = [(0, 5, 3), (1, 1, 1), (3, 5, 3), (2, 3, 49), (1, 16, 1024), (5, 32, 256), (1, 3, 257 * 259)]
TAILS = [(0, 5, 3, 2), (1, 1, 1, 1), (2, 19, 259, 5), (1, 16, 1024, 4), (65, 64, 64, 16), (2, 2048, 49, 128)]
LARGE = (1, 3, 300_007, 2)

pytestmark = pytest.mark.skipif(
    PROVIDER not in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has no CUDA provider: pip install onnxruntime-gpu in place of onnxruntime",
)

Array = NDArray[np.float64]
Feeds = dict[str, Array]
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def library() -> Path:
    """librc_ort with CUDA kernels, and CUDA's libraries from PyTorch's packages."""
    onnxruntime.preload_dlls()
    built_with_cuda("rc_ort_cuda_tests.flags")
    return tree() / "lib" / "librc_ort.so"


@pytest.fixture
def session(library: Path, tmp_path: Path) -> Make:
    def make(model: ModelProto, bodies: bool = False, all_on_device: bool = True, **options: str) -> Any:
        asked = onnxruntime.SessionOptions()
        asked.enable_profiling, asked.profile_file_prefix = not options, str(tmp_path / "profile")
        asked.add_session_config_entry("session.disable_cpu_ep_fallback", str(int(all_on_device)))
        if not bodies:
            asked.register_custom_ops_library(str(library))
        providers = [(PROVIDER, {**PROVIDER_OPTIONS, **options})]
        made = onnxruntime.InferenceSession(model.SerializeToString(), asked, providers=providers)
        assert made.get_providers()[0] == PROVIDER
        return made

    return make


def ran(session: Any) -> dict[str, set[str]]:
    """End the session's profile; return the rc operators of which kernels ran, and on which providers."""
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event["args"] for event in events if event.get("cat") == "Node" and "provider" in event["args"]]
    assert nodes
    return {
        name: {node["provider"] for node in nodes if node["op_name"] == name}
        for name in OPERATORS
        if any(node["op_name"] == name for node in nodes)
    }


def model_of(operator: str, dtype: str, attributes: str = "") -> ModelProto:
    """One operator; in- and outputs are float32, which NumPy has, and converted on the device."""
    names = OPERATORS[operator].inputs
    casts = " ".join(f"{name}_ = Cast <to = {CODES[dtype]}> ({name})" for name in names)
    inputs = ", ".join(f"float{_dimensions(name)} {name}" for name in names)
    call = f"Y_ = rc.{operator} {attributes} ({', '.join(f'{name}_' for name in names)})"
    return onnx.parser.parse_model(f"{HEADER} g ({inputs}) => (float Y) {{ {casts} {call} Y = Cast <to = 1> (Y_) }}")


def _dimensions(name: str) -> str:
    ranks = {"Mu": "[N, C]", "LogVar": "[N, C]", "W1": "[H, C]", "B1": "[H]", "W2": "[D, H]", "B2": "[D]"}
    return ranks.get(name, "[N, C, L]")


def random(dtype: str, *shape: int, scale: float = 1.0) -> Array:
    """Normal numbers that the type has."""
    values = torch.randn(shape, dtype=torch.float64) * scale
    return np.asarray(values.to(DTYPES[dtype]).double().numpy())


def tail_feeds(dtype: str, shape: tuple[int, int, int, int]) -> Feeds:
    batch, channels, positions, hidden = shape
    return {
        "A": random(dtype, batch, channels, positions, scale=2.0),
        "Shortcut": random(dtype, batch, channels, positions, scale=2.0),
        "W1": random(dtype, hidden, channels, scale=channels**-0.5),
        "B1": random(dtype, hidden, scale=0.5),
        "W2": random(dtype, 2 * channels, hidden, scale=hidden**-0.5),
        "B2": random(dtype, 2 * channels, scale=0.5),
    }


def single(feeds: Feeds) -> dict[str, NDArray[np.float32]]:
    return {name: array.astype(np.float32) for name, array in feeds.items()}


def run(session: Any, feeds: Feeds) -> Array:
    return np.asarray(session.run(None, single(feeds))[0], np.float64)


@pytest.mark.parametrize("approximate", APPROXIMATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gclu(session: Make, dtype: str, approximate: str, shape: tuple[int, int, int]) -> None:
    x = random(dtype, *shape, scale=3.0)
    made = session(model_of("GCLU", dtype, f'<approximate = "{approximate}">'))
    exact = reference.gclu(x, approximate)
    assert_within(run(made, {"X": x}), exact, gclu_bound(dtype, x, exact))
    assert ran(made) == {"GCLU": {PROVIDER}}


@pytest.mark.parametrize("epsilon", [1e-5, 0.25])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_calibrations(session: Make, dtype: str, shape: tuple[int, int, int], epsilon: float) -> None:
    feeds = {"A": random(dtype, *shape, scale=3.0), "Mu": random(dtype, *shape[:2])}
    feeds |= {"LogVar": random(dtype, *shape[:2], scale=3.0)}
    plain = session(model_of("ResponseCalibration", dtype, f"<epsilon = {epsilon}>"))
    exact = reference.response_calibration(feeds["A"], feeds["Mu"], feeds["LogVar"], epsilon)
    bound = operator_bound(dtype, RC_ARITHMETIC, np.abs(feeds["A"]), np.abs(exact))
    assert_within(run(plain, feeds), exact, bound)
    assert ran(plain) == {"ResponseCalibration": {PROVIDER}}

    feeds |= {"Shortcut": random(dtype, *shape, scale=3.0)}
    ending = session(model_of("CalibratedResidual", dtype, f"<epsilon = {epsilon}>"))
    total = np.maximum(exact + feeds["Shortcut"], 0.0)
    bound = operator_bound(dtype, RC_ARITHMETIC + 2, np.abs(feeds["A"]) + np.abs(feeds["Shortcut"]), total)
    assert_within(run(ending, feeds), total, bound)
    assert ran(ending) == {"CalibratedResidual": {PROVIDER}}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*TAILS, LARGE])
def test_calibrated_tail(session: Make, dtype: str, shape: tuple[int, int, int, int]) -> None:
    feeds = tail_feeds(dtype, shape)
    made = session(model_of("CalibratedTail", dtype))
    a, shortcut, *weights = feeds.values()
    exact, off = reference.calibrated_tail(a, shortcut, weights)
    bound = operator_bound(dtype, RC_ARITHMETIC + 2, np.abs(a) + np.abs(shortcut), exact) + off
    assert_within(run(made, feeds), exact, bound)
    assert ran(made) == {"CalibratedTail": {PROVIDER}}


def test_runs_at_once_do_not_disturb_each_other(session: Make) -> None:
    """Runs of two sessions and within each, on streams of their own, whose workspaces come from one arena a session."""
    cases = [tail_feeds("float16", shape) for shape in (LARGE, (2, 3, 100_003, 4), (4, 16, 1024, 4)) for _ in range(2)]
    sessions = [session(model_of("CalibratedTail", "float16")) for _ in range(2)]
    alone = [run(sessions[0], feeds) for feeds in cases]
    tasks = [(made, index) for _ in range(10) for index in range(len(cases)) for made in sessions]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda task: run(task[0], cases[task[1]]), tasks))
    for (_, index), found in zip(tasks, together, strict=True):
        np.testing.assert_array_equal(found, alone[index])


class Bound:
    """A session whose in- and outputs lie on the device, at addresses that stay."""

    def __init__(self, session: Any, feeds: Feeds) -> None:
        self._session, self._binding = session, session.io_binding()
        self._inputs = {}
        for name, array in single(feeds).items():
            self._inputs[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, DEVICE, 0)
            self._binding.bind_ortvalue_input(name, self._inputs[name])
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(feeds["A"].shape, np.float32, DEVICE, 0)
        self._binding.bind_ortvalue_output("Y", self._output)

    def run(self, feeds: Feeds) -> Array:
        for name, array in single(feeds).items():
            self._inputs[name].update_inplace(array)
        self._output.update_inplace(np.full(feeds["A"].shape, np.nan, np.float32))
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return np.asarray(self._output.numpy(), np.float64)


@pytest.mark.parametrize("shape", [(1, 16, 1024, 4), LARGE])
def test_cuda_graphs_and_foreign_streams_give_the_same(session: Make, shape: tuple[int, int, int, int]) -> None:
    cases = [tail_feeds("float16", shape) for _ in range(5)]
    model = model_of("CalibratedTail", "float16")
    plain = session(model)
    expected = [run(plain, feeds) for feeds in cases]
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    for options in ({"enable_cuda_graph": "1"}, {"user_compute_stream": str(stream.cuda_stream)}):
        bound = Bound(session(model, **options), cases[0])
        for feeds, exact in zip(cases, expected, strict=True):
            np.testing.assert_array_equal(bound.run(feeds), exact)


@pytest.fixture(scope="module")
def relu_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResCNet-8 with ReLU, whose residual blocks' ends can be fused."""
    network = randomised(models.create("rescnet8", {"num_classes": 10}), SPEC.shape)
    path = tmp_path_factory.mktemp("relu") / "relu.pt"
    checkpoint.save(checkpoint.Checkpoint("rescnet8", {"num_classes": 10}, SPEC, network.state_dict()), path)
    export(path, path.with_suffix(".onnx"))
    return path


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize(
    ("network", "form", "operators"),
    [
        ("small_checkpoint", "bodies", set()),
        ("small_checkpoint", "library", {"GCLU", "ResponseCalibration"}),
        ("relu_checkpoint", "fused", {"CalibratedTail"}),
    ],
)
def test_whole_network(
    request: pytest.FixtureRequest, session: Make, small_onnx: Path, network: str, form: str, operators: set[str],
    precision: Precision,
) -> None:  # fmt: skip
    """The logits of a network, held against float64 as `rc-deploy validate` holds them."""
    path: Path = request.getfixturevalue(network)
    images = np.random.default_rng(0).normal(size=(16, *SPEC.shape)).astype(np.float32)
    expected = loading.load(path, None, None, bodies=True)
    roundings = expected.roundings()
    with expected.runner as runner:
        exact = runner.run_float64(images)
        kappa = condition(runner, images, roundings)
        tolerance = tolerances.derive(roundings, precision, runner.run(images), kappa)
    model = typed(load(path.with_suffix(".onnx")), precision, path.name)
    model = fused(model) if form == "fused" else model
    made = session(model, bodies=form == "bodies", all_on_device=False)
    found = made.run(None, {made.get_inputs()[0].name: images})[0]
    assert np.abs(found - exact).max() <= tolerance.maximum
    assert ran(made) == {name: {PROVIDER} for name in operators}
