"""What the report shows of a validation: the parity matrix, changed images, every layer, and the RC layers."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from PIL import Image

from rc_deploy import data, loading
from rc_deploy.data import ImageSet
from rc_deploy.errors import InputError, OutputError
from rc_deploy.flips import LONGEST_SIDE, MOST, flips
from rc_deploy.nn import ResponseCalibration
from rc_deploy.report import build_report, report_on, require_report
from rc_deploy.responses import QUANTILES, responses
from rc_deploy.validate import ValidateOptions, validate_chain
from report_documents import chain, first, validation, write
from test_report import Outline, report

if TYPE_CHECKING:
    from rc_deploy.verdict import Chain


@pytest.fixture(scope="module")
def perturbed(small_onnx: Path) -> Path:
    """The small network with one convolution off by a third: classes change, one layer diverges."""
    model = onnx.load(small_onnx)
    node = [node for node in model.graph.node if node.op_type == "Conv"][3]
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(4 / 3), weight.name))
    path = small_onnx.with_name("perturbed.onnx")
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def outcome(small_onnx: Path, perturbed: Path, small_checkpoint: Path) -> Chain:
    options = ValidateOptions("random:40", stress=False, bisect=True)
    return validate_chain([small_onnx, perturbed], small_checkpoint, options)


@pytest.fixture(scope="module")
def page(outcome: Chain, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("report") / "report.html"
    report_on(None, outcome.to_json(), output)
    return output.read_text()


def test_the_matrix_is_shown_with_steps_and_sums(outcome: Chain, page: str) -> None:
    text = Outline(page).text
    for index, row in enumerate(outcome.matrix):
        assert f"{index} {row.title}" in text
    assert text.count("step") >= 2
    assert text.count("sum") >= 2
    last = outcome.matrix[-1].sum
    assert last is not None
    assert f"{last.comparison.agreement:.2f}%" in text
    assert page.count('class="used"') >= 2 * len(outcome.matrix)


def test_every_layer_is_shown_and_the_first_beyond_its_tolerance_named(outcome: Chain, page: str) -> None:
    sound, wrong = (item.layers for item in outcome.validations)
    assert sound
    assert wrong
    assert wrong.first is not None
    text = Outline(page).text
    assert f"All {len(sound.layers)} layers of small.onnx are within their tolerance" in text
    assert f"The first layer of perturbed.onnx beyond its tolerance is {wrong.layers[wrong.first].name}" in text
    for layer in (*sound.layers, *wrong.layers):
        assert layer.name in text


def test_changed_images_are_shown_as_they_are(outcome: Chain, page: str, small_checkpoint: Path) -> None:
    changed = outcome.validations[1].flips
    assert changed
    assert len(changed) == min(MOST, len(outcome.validations[1].comparison.flips))
    images = data.load("random:40", None, loading.load(small_checkpoint).input, None, None).images
    sources = [value for key, value in Outline(page).attributes if key == "src" and value]
    assert len(sources) == len(changed)
    for flip, source in zip(changed, sources, strict=True):
        assert source.startswith("data:image/png;base64,")
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
        np.testing.assert_array_equal(picture.transpose(2, 0, 1), images[flip.number])
        assert f"{flip.expected} {flip.expected_probability:.0%} became {flip.found}" in Outline(page).text


def test_flips_are_the_surest_first_and_no_more_than_can_be_looked_at() -> None:
    rng = np.random.default_rng(0)
    images = ImageSet(rng.integers(0, 256, (100, 1, 200, 90), np.uint8), np.arange(100) % 3, ("a", "b", "c"))
    expected, found = rng.standard_normal((2, 100, 3)).astype(np.float32)
    found[7] = np.nan  # as a broken artefact gives
    shown = flips(expected, found, images, ("a", "b"))
    assert len(shown) == MOST
    sure = [flip.expected_probability for flip in shown]
    assert sure == sorted(sure, reverse=True)
    for flip in shown:
        classes = ("a", "b", "2")  # the third has no name
        assert flip.label == classes[flip.number % 3]
        assert flip.expected == classes[expected[flip.number].argmax()]
        assert flip.found == classes[found[flip.number].argmax()]
        odds = np.exp(expected[flip.number].astype(np.float64))
        assert math.isclose(flip.expected_probability, (odds / odds.sum()).max(), rel_tol=1e-6)
        np.testing.assert_array_equal(flip.picture(), images.images[flip.number][:, ::4, ::4].transpose(1, 2, 0))
        assert max(flip.shape[1:]) <= LONGEST_SIDE


def test_flips_keep_the_numbers_of_drawn_images() -> None:
    images = ImageSet(np.zeros((2, 3, 4, 4), np.uint8), None, (), np.array([5, 9]))
    (flip,) = flips(np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]]), images, ())
    assert (flip.number, flip.label, flip.expected, flip.found) == (9, None, "1", "0")


def by_hooks(path: Path, images: np.ndarray[Any, Any]) -> dict[str, tuple[Any, Any, Any]]:
    """Return mean, deviation and weight of each RC layer of a checkpoint, by an independent float64 computation."""
    network = loading.load(path).network
    assert network is not None
    found = {}

    def looked(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, _: Any) -> None:
            (a,) = inputs
            hidden = module.activation(module.squeeze(a.mean(dim=(2, 3))))
            mu = module.mean(hidden)
            std = torch.exp(module.log_var(hidden) / 2) + module.epsilon
            z = (a - mu[..., None, None]) / std[..., None, None]
            weight = torch.special.ndtr(-z.abs().double())
            found[name] = tuple(np.quantile(value.double().numpy(), QUANTILES) for value in (mu, std, weight))

        return hook

    for name, module in network.named_modules():
        if isinstance(module, ResponseCalibration):
            module.register_forward_hook(looked(name))
    with torch.no_grad():
        network(torch.from_numpy(images))
    return found


def test_responses_are_those_of_the_modules(small_checkpoint: Path, small_onnx: Path, page: str) -> None:
    loaded = loading.load(small_onnx, bodies=True)
    images = data.normalise(data.load("random:40", None, loaded.input, None, None).images[:16], loaded.input)
    found = responses([loaded], images)
    assert found is not None
    expected = by_hooks(small_checkpoint, images)
    assert [layer.module for layer in found.layers] == list(expected)
    for layer in found.layers:
        for values, own in zip(expected[layer.module], (layer.mu, layer.std, layer.weight), strict=True):
            # A hundred float32 roundings on the way to a layer, and the cancellation in a - mu.
            np.testing.assert_allclose(own, values, rtol=2e-4, atol=2e-6)
        assert layer.module in Outline(page).text


def test_networks_without_calibration_have_no_responses(small_typed: dict[Any, Path]) -> None:
    quantised = loading.load(next(path for key, path in small_typed.items() if key.quantised))
    assert responses([quantised], np.zeros((16, 3, 16, 16), np.float32)) is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda flip: flip.update(shape=[3, 4, 5]), "does not hold"),
        (lambda flip: flip.update(shape=[2, 4, 4]), "shape"),
        (lambda flip: flip.update(shape=[3, 4, 10**9]), "shape"),
        (lambda flip: flip["pixels"].pop(), "rows"),
        (lambda flip: flip["pixels"].__setitem__(0, "<script>"), "base64|decode|padding|alphabet"),
    ],
)
def test_pictures_that_are_none_are_refused(spoil: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    images = ImageSet(np.zeros((1, 3, 4, 4), np.uint8), None, ())
    (flip,) = flips(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), images, ())
    document = json.loads(json.dumps(validation()))
    kept = {**flip.__dict__, "pixels": list(flip.pixels), "shape": list(flip.shape)}
    first(document)["flips"] = [kept]
    build_report([write(tmp_path / "sound", {"a.json": document})], tmp_path / "sound.html")
    spoil(kept)
    with pytest.raises(InputError, match=words):
        build_report([write(tmp_path / "spoilt", {"a.json": document})], tmp_path / "spoilt.html")


def test_documents_without_the_newer_keys_still_make_a_report(tmp_path: Path) -> None:
    page = Outline(report(tmp_path, {"a.json": chain(first(validation()), first(validation("fp32")))}))
    assert page.sections == ["parity", "machine", "reproduce"]


def test_validate_writes_its_report_even_where_it_fails(
    small_onnx: Path, perturbed: Path, small_checkpoint: Path, tmp_path: Path, here: Callable[..., tuple[object, str]]
) -> None:
    common = ("--reference", small_checkpoint, "--data", "random:20", "--no-stress", "--report")
    assert here("validate", small_onnx, *common, tmp_path / "good.html", "--json", tmp_path / "good.json")[0] == 0
    assert here("validate", perturbed, *common, tmp_path / "bad.html")[0] == 8
    assert "PASS" in Outline((tmp_path / "good.html").read_text()).text
    assert "FAIL" in Outline((tmp_path / "bad.html").read_text()).text
    build_report([tmp_path / "good.json"], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (tmp_path / "good.html").read_text()


def test_bench_writes_its_report(small_onnx: Path, tmp_path: Path, here: Callable[..., tuple[object, str]]) -> None:
    page = tmp_path / "bench.html"
    command = ("bench", small_onnx, "--batch", "1", "--seconds", "0.2", "--loads", "2", "--report", page)
    assert here(*command)[0] == 0
    assert "Images per second by batch size." in page.read_text()


def test_a_report_replaces_no_input(small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        require_report(small_onnx, [small_onnx], None)
    with pytest.raises(OutputError):
        require_report(tmp_path / "a.json", [], str(tmp_path / "a.json"))
