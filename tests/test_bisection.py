"""Bisection: no layer of a right artefact leaves its tolerance, and the layer that has a planted fault is named."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

import faults
from conftest import SPEC
from rc_deploy import bisection, checkpoint, data, loading, reference_layers
from rc_deploy.bisection import Bisection, bisect
from rc_deploy.condition import PERTURBATION
from rc_deploy.engine import BuildOptions, build
from rc_deploy.errors import InputError, ParityError
from rc_deploy.export import ExportOptions, export
from rc_deploy.graph import modules as graph_modules
from rc_deploy.graph.fuse import fused
from rc_deploy.nn import layers as network_layers
from rc_deploy.specs import Precision
from rc_deploy.validate import ValidateOptions, validate

IMAGES = data.normalise(data.load("random:3", spec=SPEC).head(8).images, SPEC)
CONV = "stages.1.0.branch.4"  # the batch norm's name; that of its convolution is stages.1.0.branch.3
FOLDED = "stages.1.0.branch.3 + stages.1.0.branch.4"


def layers_of(artefact: Path, reference: Path) -> Bisection:
    return bisect(loading.load(artefact, bodies=True), loading.load(reference, bodies=True), IMAGES)


def first_of(found: Bisection) -> str:
    assert found.first is not None
    return found.layers[found.first].name


@pytest.mark.parametrize("reference", [".pt", ".onnx"])
@pytest.mark.parametrize("artefact", [".onnx", ".fp16.onnx", ".fp16.engine"])
def test_layers_of_right_artefacts_are_within(
    artefact: str, reference: str, small_checkpoint: Path, small_engine: Path
) -> None:
    found = layers_of(small_checkpoint.with_suffix(artefact), small_checkpoint.with_suffix(reference))
    assert [layer.name for layer in found.layers if not layer.within] == []
    names = [layer.name for layer in found.layers]
    assert "classifier" in names[-2:]  # a typed graph casts its logits behind it
    assert {"stem.2", "stages.0.0.calibration", "stages.2.0.calibration.log_var", "pool"} <= {*names}
    if reference == ".pt":
        # 9 convolutions, 7 activations, 4 modules in each of 3 calibrations, pool and classifier.
        assert names[0] == "stem.0 + stem.1"
        assert len({*names} - {"(the network)"}) == 9 + 7 + 3 * 4 + 2
        assert FOLDED in names


def test_tolerances_of_layers_have_little_room_to_spare(small_checkpoint: Path, small_engine: Path) -> None:
    """Float16's roundings are counted one by one, so its bounds are close; what float32 sums lose is bounded by the
    worst order of summation. The statistics of calibrations are float32 in either graph."""
    for suffix, room in ((".fp16.onnx", 20), (".onnx", 100)):
        found = layers_of(small_checkpoint.with_suffix(suffix), small_checkpoint)
        for layer in found.layers:
            statistics = re.search(r"\.calibration\.(squeeze|mean|log_var)$", layer.name)
            assert layer.tolerance.maximum < (100 if statistics else room) * layer.max_error, (suffix, layer.name)


FAULTS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "wrong sign in GCLU's body": (partial(faults.wrong_sign, operator="GCLU"), "stem.2"),
    "wrong sign in the calibration's body": (
        partial(faults.wrong_sign, operator="ResponseCalibration"),
        "stages.0.0.calibration",
    ),
    "epsilon of one layer": (partial(faults.loosen_epsilon, position=1), "stages.1.0.calibration"),
    "a convolution off by 1%": (partial(faults.scale_weight, module=CONV, op_type="Conv", factor=1.01), FOLDED),
    "a Linear off by 1%": (
        partial(faults.scale_weight, module="stages.2.0.calibration.mean", op_type="Gemm", factor=1.01),
        "stages.2.0.calibration.mean",
    ),
    "the shortcut off by 1%": (
        partial(faults.scale_weight, module="stages.2.0.shortcut.1", op_type="Conv", factor=1.01),
        "stages.2.0.shortcut.0 + stages.2.0.shortcut.1",
    ),
    "the classifier off by 1%": (
        partial(faults.scale_weight, module="classifier", op_type="Gemm", factor=1.01),
        "classifier",
    ),
}


@pytest.mark.parametrize("reference", [".pt", ".onnx"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_layer_of_a_fault_is_named(
    fault: str, reference: str, small_checkpoint: Path, small_onnx: Path, tmp_path: Path
) -> None:
    change, name = FAULTS[fault]
    model = onnx.load(small_onnx)
    change(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    found = layers_of(tmp_path / "wrong.onnx", small_checkpoint.with_suffix(reference))
    assert first_of(found) in (name, name.rpartition(" + ")[2])  # a graph knows the batch norm's name only
    assert found.first is not None
    assert found.layers[found.first].max_error > found.layers[found.first].tolerance.maximum
    assert all(layer.within for layer in found.layers[: found.first])


@pytest.mark.parametrize("module", ["stem.1", CONV, "stages.2.0.branch.1"])
def test_a_fault_of_1_percent_is_found_in_float16(
    module: str, small_checkpoint: Path, small_engine: Path, tmp_path: Path
) -> None:
    model = onnx.load(small_engine.with_suffix(".onnx"))
    faults.scale_weight(model, module, "Conv", 1.01)
    onnx.save(model, tmp_path / "wrong.onnx")
    found = layers_of(tmp_path / "wrong.onnx", small_checkpoint)
    assert first_of(found).endswith(module)


def test_groups_of_layers_change_nothing(
    small_checkpoint: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = layers_of(small_onnx, small_checkpoint)
    asked: list[int] = []
    run = graph_modules.layer_outputs

    def counted(model: onnx.ModelProto, tensors: list[str], *rest: object) -> object:
        asked.append(len(tensors))
        return run(model, tensors, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bisection, "layer_outputs", counted)
    monkeypatch.setattr(bisection, "LARGEST_GROUP", 2**19)
    parts = layers_of(small_onnx, small_checkpoint)
    assert len(asked) > 3
    assert sum(asked) == len(whole.layers)
    assert [layer.name for layer in parts.layers] == [layer.name for layer in whole.layers]
    for layer, other in zip(parts.layers, whole.layers, strict=True):
        assert layer.max_error == pytest.approx(other.max_error, rel=0.5, abs=1e-6)


def test_a_fixed_batch_is_filled(small_checkpoint: Path, tmp_path: Path) -> None:
    export(small_checkpoint, tmp_path / "three.onnx", ExportOptions(static_batch=3))
    found = layers_of(tmp_path / "three.onnx", small_checkpoint)
    assert (found.images, found.first) == (3, None)


def test_fused_layers_are_those_of_the_block_around_them() -> None:
    """What CalibratedTail makes is behind the sum and activation of a block: that is compared, not its calibration."""
    from conftest import randomised
    from rc_deploy import models
    from rc_deploy.graph.from_torch import onnx_from_module

    network = randomised(models.create("rescnet8", {"num_classes": 10}), SPEC.shape)
    graph = fused(onnx_from_module(network, SPEC))
    outputs = graph_modules.module_outputs(graph)
    assert "stages.0.0" in outputs
    assert not any(name.startswith("stages.0.0.calibration") for name in outputs)
    value = graph_modules.layer_outputs(graph, [outputs["stages.0.0"]], IMAGES)[0]
    exact = network_layers.outputs(network, IMAGES, ["stages.0.0"], float64=True)["stages.0.0"]
    np.testing.assert_allclose(value, exact, atol=1e-4)


def test_a_stale_engine_differs_from_its_first_layer_on(
    small_checkpoint: Path, small_onnx: Path, tmp_path: Path
) -> None:
    """The checkpoint was trained on after the engine was built."""
    saved = checkpoint.load(small_checkpoint)
    newer = {name: tensor * 1.02 if tensor.ndim == 4 else tensor for name, tensor in saved.weights.items()}
    checkpoint.save(replace(saved, weights=newer), tmp_path / "newer.pt")
    build(small_onnx, tmp_path / "old.engine", BuildOptions(Precision.FP16, backend="tensorrt-rtx"))
    options = ValidateOptions("random:7", limit=64, bisect=True)
    outcome = validate(tmp_path / "old.engine", tmp_path / "newer.pt", options)
    assert (outcome.passed, outcome.stale) == (False, True)
    assert outcome.layers is not None
    assert first_of(outcome.layers) == "stem.0 + stem.1"
    assert not validate(tmp_path / "old.engine", small_checkpoint, options).stale


def test_the_command_names_the_layer(
    cli: Callable[..., subprocess.CompletedProcess[str]], small_checkpoint: Path, small_onnx: Path, tmp_path: Path
) -> None:
    model = onnx.load(small_onnx)
    faults.scale_weight(model, CONV, "Conv", 1.01)
    onnx.save(model, tmp_path / "wrong.onnx")
    result = cli("validate", tmp_path / "wrong.onnx", "-r", small_checkpoint, "--data", "random:1", "--bisect")
    assert result.returncode == ParityError.exit_code
    assert f"It starts at {FOLDED}." in result.stderr
    assert f"first beyond its tolerance: {FOLDED}, largest error" in result.stdout
    assert "before it: stages.1.0.branch.2, largest error" in result.stdout


def test_graphs_without_names_are_refused(small_checkpoint: Path, small_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(small_onnx)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.metadata_props.add(key="rc_deploy.module", value="elsewhere")
    onnx.save(model, tmp_path / "nameless.onnx")
    # The whole network remains; it has no name either where its last node was renamed.
    with pytest.raises(InputError, match="cannot be told"):
        layers_of(tmp_path / "nameless.onnx", small_checkpoint)


def test_values_that_are_equal_are_disturbed_alike() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16)).astype(np.float32) - 100
    moved = reference_layers.disturbed(images, 0)
    for value in np.unique(images):
        assert np.unique(moved[images == value]).size == 1
    relative = moved[images != 0] / images[images != 0] - 1
    # Of 255 values, with 3 standard errors of their standard deviation.
    assert np.std(relative) == pytest.approx(PERTURBATION, rel=3 / np.sqrt(2 * 255))
    assert not np.array_equal(moved, reference_layers.disturbed(images, 1))


def test_errors_of_equal_pixels_add_up_and_others_cancel() -> None:
    random = np.random.default_rng(0)
    colours = random.uniform(1, 2, (256, 1, 1, 1)).astype(np.float32)
    noise = random.uniform(1, 2, (256, 1, 16, 16)).astype(np.float32)
    for images, size in ((np.broadcast_to(colours, noise.shape), PERTURBATION), (noise, PERTURBATION / 16)):
        means = images.mean((1, 2, 3), np.float64)
        errors = reference_layers.disturbed(images, 0).mean((1, 2, 3), np.float64) / means - 1
        # Of 256 images with 3 standard errors; squares of the noise's values add 4% to what of 16 x 16 remains.
        assert np.std(errors) == pytest.approx(size, rel=3 / np.sqrt(2 * 256) + 0.04)


@pytest.mark.parametrize("reference", [".pt", ".onnx"])
def test_what_the_input_is_off_by_counts(
    reference: str, small_checkpoint: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loading.load(small_checkpoint.with_suffix(reference), bodies=True)
    layers = reference_layers.layers_of(loaded, {"stem.0"}, None)
    name = next(iter(layers.modules))
    before = layers.measure([name], IMAGES)[name].condition
    monkeypatch.setattr(reference_layers, "disturbed", lambda images, seed: images * np.float32(1.5))
    assert layers.measure([name], IMAGES)[name].condition > 10 * before
