"""The search on a network that needs it: one of its layers cannot be int8, one only looks as if it could not.

    stem -> body 0 to 3 -> fragile -> pool -> classes -> sum -> logits
         -> loud -> pool -> offset ------------------/

`fragile` is fed a channel a thousand times as large as the others, whose weights are as small: on one scale of 256
steps all other channels vanish, and with them what tells the classes apart. `loud` is fed the same, but what it makes
is added to all logits alike, so that they change much and no image changes its class.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from conftest import SPEC
from rc_deploy import accuracies, data, sensitivity
from rc_deploy.assignment import PrecisionOptions, assign
from rc_deploy.errors import UnsupportedError
from rc_deploy.graph import model as onnx_model
from rc_deploy.runners import onnx_session
from rc_deploy.specs import Calibration, CalibrationMethod, Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rc_deploy.sensitivity import Search

CHANNELS, BODY, CLASSES, OUTLIER = 24, 4, len(SPEC.classes), 1000.0
IMAGES, ALLOWED = 3000, 5.0
FRAGILE, LOUD = "fragile", "loud"


def images(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return pictures of a colour each, noise on it, so that the network tells them apart."""
    colours = rng.uniform(40, 215, (IMAGES, 3, 1, 1))
    return np.clip(colours + rng.normal(0, 20, (IMAGES, *SPEC.shape)), 0, 255).astype(np.uint8)


def network(small_onnx: Path, rng: np.random.Generator) -> onnx.ModelProto:
    """Return the network above, with the metadata of the small one."""
    weights: dict[str, NDArray[np.float32]] = {}
    nodes: list[onnx.NodeProto] = []

    def layer(name: str, fed: str, inputs: int, outlier: bool = False, outputs: int = CHANNELS) -> str:
        values = rng.normal(0, inputs**-0.5, (outputs, inputs, 1, 1))
        if outlier:
            values[:, 0] = rng.normal(0, 1e-3 / OUTLIER, (outputs, 1, 1))
        weights[f"{name}.weight"] = values.astype(np.float32)
        nodes.append(helper.make_node("Conv", [fed, f"{name}.weight"], [f"{name}_made"], name=name))
        nodes.append(helper.make_node("Relu", [f"{name}_made"], [f"{name}_out"], name=f"{name}_relu"))
        return f"{name}_out"

    def head(name: str, fed: str, outputs: int) -> str:
        nodes.append(helper.make_node("GlobalAveragePool", [fed], [f"{name}_mean"], name=f"{name}_pool"))
        nodes.append(helper.make_node("Flatten", [f"{name}_mean"], [f"{name}_flat"], name=f"{name}_flatten"))
        weights[f"{name}.weight"] = rng.normal(0, 1, (CHANNELS, outputs)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [f"{name}_flat", f"{name}.weight"], [f"{name}_made"], name=name))
        return f"{name}_made"

    weights["scale"] = np.where(np.arange(CHANNELS) == 0, OUTLIER, 1).astype(np.float32).reshape(1, -1, 1, 1)
    stem = last = layer("stem", "images", 3)
    for index in range(BODY):
        last = layer(f"body.{index}", last, CHANNELS)
    for name, fed in ((FRAGILE, last), (LOUD, stem)):
        nodes.append(helper.make_node("Mul", [fed, "scale"], [f"{name}_fed"], name=f"{name}_scale"))
    scores = head("classes", layer(FRAGILE, f"{FRAGILE}_fed", CHANNELS, outlier=True), CLASSES)
    offset = head("offset", layer(LOUD, f"{LOUD}_fed", CHANNELS, outlier=True), 1)
    weights["centre"] = np.zeros(CLASSES, np.float32)
    nodes.append(helper.make_node("Add", [scores, "centre"], ["centred"], name="add_centre"))
    nodes.append(helper.make_node("Add", ["centred", offset], ["logits"], name="add_offset"))
    graph = helper.make_graph(
        nodes,
        "needs_the_search",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["N", *SPEC.shape])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_model.set_provenance(model, onnx_model.provenance(onnx.load(small_onnx), "small"))
    return model


@pytest.fixture(scope="module")
def needy(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, PrecisionOptions]:
    """The network, and options for images with the classes that it gives them, each about as often."""
    rng = np.random.default_rng(0)
    model = network(small_onnx, rng)
    pictures = images(rng)
    logits = run(model, pictures)
    centre = next(tensor for tensor in model.graph.initializer if tensor.name == "centre")
    centre.CopyFrom(numpy_helper.from_array(logits.mean(1).mean() - logits.mean(0), "centre"))
    labels = run(model, pictures).argmax(1)
    assert np.bincount(labels).max() < IMAGES / 2
    path = tmp_path_factory.mktemp("needy") / "needy.npz"
    np.savez(path, images=pictures, labels=labels)
    calibration = Calibration(f"npz:{path}", 200, CalibrationMethod.MINMAX)
    return model, PrecisionOptions(Precision.INT8, (), calibration, max_accuracy_drop=ALLOWED)


def run(model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = onnx_session(model, 2).run(None, {"images": data.normalise(pictures, SPEC)})[0]
    return logits


def searched(needy: tuple[onnx.ModelProto, PrecisionOptions]) -> Search:
    found = assign(*needy, "needy").search
    assert found is not None
    return found


def require_right(found: Search) -> None:
    """Raise AssertionError unless the search did what it promises, at the price it should have."""
    assert found.kept == found.unproven == (FRAGILE,)
    assert found.search.drop <= ALLOWED
    assert max(found.check.drop, found.held_out.drop) <= ALLOWED
    assert found.looks == 1
    # A bisection of eight layers, two that might be given back, the images of the check and those held out.
    assert found.candidates <= 5 + 2 + 2
    assert found.proven


def test_it_keeps_the_one_layer_that_accuracy_needs(needy: tuple[onnx.ModelProto, PrecisionOptions]) -> None:
    model, options = needy
    found = searched(needy)
    require_right(found)
    change = {item.node: item.change for item in found.layers}
    assert min(change[FRAGILE], change[LOUD]) > 2 * max(change[name] for name in change if name not in (FRAGILE, LOUD))
    everything = assign(model, PrecisionOptions(Precision.INT8, (), options.calibration, max_accuracy_drop=100), "all")
    assert everything.search is not None
    assert everything.search.kept == ()
    assert everything.search.held_out.drop > 4 * ALLOWED  # there was something to lose
    low, high = found.interval
    assert low < found.held_out.drop < high
    assert found.proven == (high <= ALLOWED)


@pytest.mark.parametrize(
    "broken",
    [
        ("accuracies.Measurements.holds", lambda *_: True),
        ("accuracies.Measurements.holds", lambda *_: False),
        ("sensitivity._given_back", lambda problem, measured, kept, sensitivities: kept),
        ("sensitivity._shortest_prefix", lambda problem, measured, order: frozenset(order)),
        ("sensitivity._shortest_prefix", lambda problem, measured, order: frozenset()),
        ("sensitivity._extended", lambda measured, kept, order: frozenset(order[:3])),
    ],
    ids=["all holds", "nothing holds", "nothing given back", "everything kept", "nothing kept", "too much added"],
)
def test_a_broken_search_is_noticed(
    broken: tuple[str, object],
    needy: tuple[onnx.ModelProto, PrecisionOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test above can fail: each step of the search is put out of order in turn."""
    place, replacement = broken
    module, _, attribute = place.partition(".")
    owner: object = {"accuracies": accuracies, "sensitivity": sensitivity}[module]
    *classes, name = attribute.split(".")
    for part in classes:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises((AssertionError, UnsupportedError)):
        require_right(searched(needy))
