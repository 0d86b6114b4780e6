"""Validation: a right artefact passes, and every planted fault fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import SPEC
from rc_deploy import checkpoint, compare, data, manifest, tolerances
from rc_deploy.condition import condition
from rc_deploy.engine import build
from rc_deploy.errors import InputError
from rc_deploy.export import export
from rc_deploy.graph import bodies
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.roundings import roundings
from rc_deploy.nn.roundings import roundings as traced
from rc_deploy.runners import OnnxRunner, TorchRunner
from rc_deploy.specs import Precision
from rc_deploy.validate import ValidateOptions, validate

NOISE = ValidateOptions(data="random:7")


@pytest.mark.parametrize("suffix", [".onnx", ".fp16.onnx", ".fp16.engine"])
def test_right_artefacts_pass(suffix: str, small_checkpoint: Path, small_engine: Path) -> None:
    outcome = validate(small_checkpoint.with_suffix(suffix), small_checkpoint, NOISE)
    assert outcome.passed
    assert outcome.comparison.images == data.RANDOM_IMAGES
    assert 0 < outcome.comparison.max_error <= outcome.tolerance.maximum
    assert ("engine itself was NOT run" in outcome.artefact.note) == suffix.endswith("engine")


def test_tolerance_has_no_room_to_spare(small_checkpoint: Path, small_engine: Path) -> None:
    """A bound a thousand times the error would catch nothing: these are within a factor of 50 for both types."""
    for suffix in (".onnx", ".fp16.onnx"):
        outcome = validate(small_checkpoint.with_suffix(suffix), small_checkpoint, NOISE)
        assert outcome.tolerance.maximum < 50 * outcome.comparison.max_error, suffix


def change_weight(model: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def swap_bodies_sign(model: onnx.ModelProto) -> None:
    for function in model.functions:
        for node in function.node:
            if node.op_type == "Add" and "calibration" in node.input:
                node.op_type = "Sub"


def loosen_epsilon(model: onnx.ModelProto) -> None:
    for node in bodies.rc_nodes(model):
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = 1e-2


def one_percent(values: np.ndarray) -> np.ndarray:
    return np.asarray(values * 1.01)


def one_output_channel(values: np.ndarray) -> np.ndarray:
    values[0] *= 1.001
    return values


FAULTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "wrong sign in a body": swap_bodies_sign,
    "wrong epsilon": loosen_epsilon,
    "weights off by 1%": lambda model: change_weight(model, one_percent),
    "one channel off by 0.1%": lambda model: change_weight(model, one_output_channel),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_fail(fault: str, small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    FAULTS[fault](model)
    path = tmp_path / "wrong.onnx"
    onnx.save(model, path)
    outcome = validate(path, small_checkpoint, NOISE)
    assert not outcome.passed
    assert outcome.comparison.max_error > outcome.tolerance.maximum


def relabelled(path: Path, precision: Precision, output: Path) -> Path:
    """Save a graph that says it is of another precision than it is."""
    model = onnx.load(path)
    stated = onnx_model.provenance(model, "model")
    onnx_model.set_provenance(model, replace(stated, precision=precision))
    onnx.save(model, output)
    return output


def test_precision_is_what_the_tensors_are(small_checkpoint: Path, small_engine: Path, tmp_path: Path) -> None:
    half, full = small_engine.with_suffix(".onnx"), small_checkpoint.with_suffix(".onnx")
    for path, precision in ((half, Precision.FP32), (full, Precision.FP16)):
        with pytest.raises(InputError, match=f"says that it is {precision}, but"):
            validate(relabelled(path, precision, tmp_path / "relabelled.onnx"), small_checkpoint, NOISE)
    with pytest.raises(InputError, match="says that it is fp32, but"):
        build(relabelled(half, Precision.FP32, tmp_path / "relabelled.onnx"), tmp_path / "built.engine")


def detour(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "wide"
    model.graph.node.append(onnx.helper.make_node("Cast", ["wide"], ["narrow"], to=onnx.TensorProto.FLOAT16))
    model.graph.node.append(onnx.helper.make_node("Cast", ["narrow"], ["logits"], to=onnx.TensorProto.FLOAT))


def dead_end(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Cast", ["logits"], ["narrow"], to=onnx.TensorProto.FLOAT16))


def narrow_body(model: onnx.ModelProto) -> None:
    cast = next(node for node in model.functions[0].node if node.op_type == "Cast")
    cast.attribute[0].i = onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("change", [detour, dead_end, narrow_body])
def test_narrow_arithmetic_cannot_hide_in_float32(
    change: Callable[[onnx.ModelProto], None], small_checkpoint: Path, small_onnx: Path, tmp_path: Path
) -> None:
    model = onnx.load(small_onnx)
    change(model)
    onnx.save(model, tmp_path / "narrow.onnx")
    with pytest.raises(InputError, match="says that it is fp32, but 1 of|not a valid ONNX model"):
        validate(tmp_path / "narrow.onnx", small_checkpoint, NOISE)


def test_artefact_has_no_say_in_its_tolerance(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    """A hundred further operators, which change nothing, do not widen it."""
    model = onnx.load(small_onnx)
    model.graph.node[-1].output[0] = "padded0"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
    for index in range(100):
        output = "logits" if index == 99 else f"padded{index + 1}"
        model.graph.node.append(onnx.helper.make_node("Add", [f"padded{index}", "nothing"], [output]))
    onnx.save(model, tmp_path / "padded.onnx")
    plain, padded = (validate(path, small_checkpoint, NOISE) for path in (small_onnx, tmp_path / "padded.onnx"))
    assert padded.tolerance == plain.tolerance
    assert padded.passed


def test_references_that_prove_nothing_are_refused(
    small_checkpoint: Path, small_onnx: Path, small_engine: Path, tmp_path: Path
) -> None:
    half = small_engine.with_suffix(".onnx")
    with pytest.raises(InputError, match="is fp16: its own rounding would hide"):
        validate(half, half, NOISE)
    with pytest.raises(InputError, match="is a checkpoint, which others"):
        validate(small_checkpoint, small_checkpoint, NOISE)
    saved = checkpoint.load(small_checkpoint)
    last = list(saved.weights)[-2:]  # weight and bias of the classifier
    for value, phrase in ((float("nan"), "not finite"), (0.0, "nothing but zeros")):
        weights = saved.weights | {name: saved.weights[name] * value for name in last}
        checkpoint.save(replace(saved, weights=weights), tmp_path / "reference.pt")
        with pytest.raises(InputError, match=phrase):
            validate(small_onnx, tmp_path / "reference.pt", NOISE)


def test_network_that_gives_noise_is_refused() -> None:
    generator = np.random.default_rng(0)
    noise = Fake(lambda x: generator.standard_normal(x.shape, np.float32), exact=1.0)
    with pytest.raises(InputError, match="other logits each time"):
        condition(noise, np.ones((4, 3, 8, 8), np.float32), [tolerances.Rounding(arithmetic=3)])


def test_network_that_rounding_upsets_proves_nothing(
    small_checkpoint: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that are half rounding error: within so wide a tolerance another network would pass as well."""
    exact = TorchRunner.run_float64
    monkeypatch.setattr(TorchRunner, "run_float64", lambda self, images: 1.5 * exact(self, images))
    outcome = validate(small_onnx, small_checkpoint, NOISE)
    assert [item.name for item in outcome.criteria if not item.passed] == ["share of the logits that rounding explains"]
    with pytest.raises(InputError, match="rounding alone changes its logits"):
        export(small_checkpoint, small_onnx.with_name("never.onnx"))
    assert not small_onnx.with_name("never.onnx").exists()


def test_weights_rounded_to_float16_fail_in_float32(small_checkpoint: Path, tmp_path: Path) -> None:
    wide = onnx.load(small_checkpoint.with_suffix(".onnx"))
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(wide, tmp_path / "rounded.onnx")
    assert not validate(tmp_path / "rounded.onnx", small_checkpoint, NOISE).passed


def test_swapped_normalisation_is_refused(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    stated = onnx_model.provenance(model, "model")
    swapped = replace(stated.input, mean=stated.input.mean[::-1])
    onnx_model.set_provenance(model, replace(stated, input=swapped))
    onnx.save(model, tmp_path / "swapped.onnx")
    with pytest.raises(InputError, match="do not belong together"):
        validate(tmp_path / "swapped.onnx", small_checkpoint, NOISE)


def test_thresholds_are_criteria(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    images = data.load("random:1", spec=SPEC)
    labels = np.arange(len(images)) % 10
    np.savez(tmp_path / "set.npz", images=images.images, labels=labels)
    options = ValidateOptions(f"npz:{tmp_path / 'set.npz'}", min_agreement=100.0, max_accuracy_drop=0.0, batch=100)
    outcome = validate(small_onnx, small_checkpoint, options)
    assert [criterion.name for criterion in outcome.criteria[3:5]] == [
        "top-1 agreement (%)",
        "loss of accuracy (points)",
    ]
    assert outcome.passed
    assert outcome.comparison.reference_accuracy is not None
    with pytest.raises(InputError, match="has no labels"):
        validate(small_onnx, small_checkpoint, replace(NOISE, max_accuracy_drop=0.0))


def test_outcome_is_added_to_the_manifest(small_checkpoint: Path, small_engine: Path) -> None:
    outcome = validate(small_engine, small_checkpoint, replace(NOISE, limit=16))
    proof = manifest.read(small_engine).proven["validation"]
    assert proof["images"] == 16
    assert proof["passed"] is True
    assert proof["note"] == outcome.artefact.note
    assert json.dumps(outcome.to_json())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_never_pass(value: float) -> None:
    reference, artefact = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    artefact[1, 1] = value
    assert compare.compare(reference, artefact).max_error == np.inf
    assert compare.compare(artefact, artefact).max_error == np.inf


class Fake:
    """A reference that is a formula."""

    name = "formula"

    def __init__(self, formula: Callable[[np.ndarray], np.ndarray], exact: float | None = None) -> None:
        self.formula, self.exact = formula, exact

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def run(self, images: np.ndarray) -> np.ndarray:
        return self.formula(images).reshape(len(images), -1)

    def run_float64(self, images: np.ndarray) -> np.ndarray | None:
        return None if self.exact is None else np.full((len(images), 192), self.exact)


def test_condition_number_of_a_linear_map_is_known() -> None:
    """y = x - 0.99 nearly cancels for x = 1: relative errors grow by 100."""
    images = np.full((4, 3, 8, 8), 1.0, np.float32)
    assert condition(Fake(lambda x: x), images, []) == pytest.approx(1.0, rel=0.01)
    assert condition(Fake(lambda x: x - np.float32(0.99)), images, []) == pytest.approx(100, rel=0.01)


def test_condition_number_is_the_references_own_error_over_the_predicted_one() -> None:
    images = np.ones((4, 3, 8, 8), np.float32)
    rounding = tolerances.Rounding(arithmetic=3)  # predicts a relative error of 2^-24
    assert condition(Fake(lambda x: x, exact=1 - 2.0**-20), images, [rounding]) == pytest.approx(16, rel=1e-5)
    assert condition(Fake(lambda x: x, exact=1 - 2.0**-30), images, [rounding]) == 1


def test_tolerance_follows_its_formula() -> None:
    logits = np.full((10, 10), 2.0, np.float32)
    rounding = tolerances.Rounding(reduction=144, stores=2)
    tolerance = tolerances.derive([rounding], Precision.FP16, logits, 1.5)
    variance = 2 * (2.0**-24) ** 2 / 3 * 72 + 2 * (2.0**-11) ** 2 / 3
    assert tolerance.variance == pytest.approx(variance)
    assert tolerance.mean == pytest.approx(1.5 * variance**0.5 * 2)
    assert tolerance.explained == pytest.approx(1.5 * variance**0.5)
    assert tolerance.maximum == pytest.approx(tolerance.mean * (2 * np.log(2 * 100 / 1e-6)) ** 0.5)


def test_roundings_are_read_off_graph_and_network(small_onnx: Path, small_checkpoint: Path) -> None:
    """Each convolution of a ResCNet-8 by its number of products: 3x3 kernels over 3, 16, 32, 64 channels, and 1x1."""

    network = checkpoint.load(small_checkpoint).module()
    graph, trace = roundings(onnx.load(small_onnx)), traced(network, SPEC.shape)
    convolutions = [27, 144, 144, 144, 16, 288, 288, 32, 576]
    heads = [16, 4, 4, 32, 8, 8, 64, 16, 16]  # squeeze, mean, log_var of three RC layers
    pooling = [256, 64, 16, 16]  # three RC layers, then the network's own
    expected = sorted([*convolutions, *heads, *pooling, 64])
    for found in (graph, trace):
        assert sorted(rounding.reduction for rounding in found if rounding.reduction) == expected
    assert sum(rounding.stores for rounding in graph) == sum(rounding.stores for rounding in trace)


def test_runners_agree_with_a_plain_call(small_checkpoint: Path, small_onnx: Path) -> None:
    import torch

    network = checkpoint.load(small_checkpoint).module()
    images = data.normalise(data.load("random:2", spec=SPEC).head(5).images, SPEC)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    before = torch.get_num_threads()
    with TorchRunner(network, threads=1) as runner:
        np.testing.assert_allclose(runner.run(images), expected, atol=1e-5)
        assert "1 threads" in runner.name
    assert torch.get_num_threads() == before
    with OnnxRunner(onnx.load(small_onnx), threads=1) as onnx_runner:
        assert onnx_runner.run(images).shape == (5, 10)
