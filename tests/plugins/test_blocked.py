"""The graph as ONNX Runtime runs it fastest: rc operators keep the convolutions' layout, and the logits stay."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

from conftest import randomised
from rc_deploy import checkpoint, models, native
from rc_deploy.checkpoint import Checkpoint
from rc_deploy.export import export
from rc_deploy.graph import blocked
from rc_deploy.graph.model import load
from rc_deploy.loading import load as loaded
from rc_deploy.specs import InputSpec
from rc_deploy.validate import ValidateOptions, validate

if TYPE_CHECKING:
    from onnx import ModelProto

SPEC = InputSpec((3, 32, 32), (0.5,) * 3, (0.25,) * 3, tuple("abcdefghij"))
# The architecture's arguments, and the rc operators that its fused form has.
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "rescnet8": ({"num_classes": 10}, {"CalibratedTail": 3}),
    "resnet8": ({"num_classes": 10, "activation": "gclu"}, {"GCLU": 7}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def saved(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with weights as if trained."""
    network = randomised(models.create(name, NETWORKS[name][0]), SPEC.shape)
    path = tmp_path_factory.mktemp(name) / f"{name}.pt"
    checkpoint.save(Checkpoint(name, NETWORKS[name][0], SPEC, network.state_dict()), path)
    return path


@pytest.fixture(scope="module")
def exported(saved: Path) -> Path:
    path = saved.with_suffix(".onnx")
    export(saved, path)
    return path


def operators(model: ModelProto, domain: str) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node if node.domain == domain)


def test_convolutions_and_rc_operators_share_a_layout(name: str, exported: Path, ort_library: Path) -> None:
    """One reordering is left, behind the last block; a convolution of three channels takes its image as it is."""
    model = blocked.fastest(load(exported), ort_library)
    assert operators(model, "rc") == NETWORKS[name][1]
    layout = operators(model, "com.microsoft.nchwc")
    assert layout["ReorderOutput"] == 1
    assert layout["ReorderInput"] == 0


def test_logits_are_those_of_the_bodies(saved: Path, exported: Path, ort_library: Path) -> None:
    assert failures(exported, saved, ort_library) == []


def test_wrong_layout_is_caught(
    saved: Path, exported: Path, ort_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail that takes blocks of 16 channels for blocks of 8, or 8 for 16, does not compute the same."""
    right = blocked._block(onnxruntime)
    monkeypatch.setattr(blocked, "_block", lambda _: 24 - right)
    found = failures(exported, saved, ort_library)
    # Elementwise operators are right in every layout.
    assert found == (["largest error of a logit, native kernels"] if saved.stem == "rescnet8" else [])


def failures(artefact: Path, reference: Path, library: Path) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, str(library.parent))
        outcome = validate(artefact, reference, ValidateOptions("random:3", limit=64, stress=False))
    return [criterion.name for criterion in outcome.criteria if not criterion.passed]


def test_bench_runs_the_layout(exported: Path, ort_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `bench` times is the fastest form; without the library, the file as it is."""
    images = np.zeros((2, 3, 32, 32), np.float32)
    monkeypatch.setenv(native.VARIABLE, str(ort_library.parent))
    fast = loaded(exported)
    monkeypatch.setenv(native.VARIABLE, "")
    slow = loaded(exported)
    with fast.runner as runner, slow.runner as bodies:
        assert "librc_ort" in runner.name
        assert "librc_ort" not in bodies.name
        assert not np.array_equal(runner.run(images), bodies.run(images))


def test_channels_that_fill_no_block_stay(small_onnx: Path, ort_library: Path) -> None:
    model = blocked.fastest(load(small_onnx), ort_library)
    assert operators(model, "rc")
    assert not [node for node in model.graph.node for attribute in node.attribute if attribute.name == "block"]


ADD = """
<ir_version: 10, opset_import: ["": 20, "rc": 1, "com.microsoft.nchwc": 1]>
g (float[N, 16, 4, 4] X, float[N, 16, {size}, {size}] Z) => (float[N, 16, 4, 4] Y)
<float[N, 16, 4, 4] A, float[N, 16, {size}, {size}] B, float[N, 16, 4, 4] C, float[N, 16, 4, 4] D> {{
  A = com.microsoft.nchwc.ReorderOutput <channels = 16> (X)
  B = com.microsoft.nchwc.ReorderOutput <channels = 16> (Z)
  C = Add (A, B)
  D = com.microsoft.nchwc.ReorderInput (C)
  Y = Abs (D)
}}
"""


@pytest.mark.parametrize(
    ("size", "left"), [(4, ["Add", "Abs"]), (1, ["ReorderOutput", "ReorderOutput", "Add", "ReorderInput", "Abs"])]
)
def test_sums_of_two_shapes_stay(size: int, left: list[str]) -> None:
    """Broadcasting goes by the layout that ONNX knows."""
    model = ir.from_proto(onnx.parser.parse_model(ADD.format(size=size)))
    assert [node.op_type for node in blocked.blocked(model, 16).graph.node] == left


@pytest.mark.parametrize(("block", "words"), [(3, "block is 3"), (8, "5 channels.* blocks of 8")])
def test_blocks_that_do_not_fit_are_refused(block: int, words: str, ort_library: Path) -> None:
    text = (
        '<ir_version: 10, opset_import: ["": 20, "rc": 1]>\n'
        "g (float[N, 5, 4] A, float[1, 5] W1, float[1] B1, float[10, 1] W2, float[10] B2) => (float[N, 5, 4] Y)"
        f"{{ Y = rc.CalibratedTail <block = {block}> (A, A, W1, B1, W2, B2) }}"
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(ort_library))
    shapes = {"A": (2, 5, 4), "W1": (1, 5), "B1": (1,), "W2": (10, 1), "B2": (10,)}
    content = onnx.parser.parse_model(text).SerializeToString()
    with pytest.raises(Exception, match=words):
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(
            None, {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        )
