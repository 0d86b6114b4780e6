"""The search for the layers that must stay float32."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from conftest import SPEC
from rc_deploy import accuracies, data, quantisation, sensitivity
from rc_deploy.assignment import PrecisionOptions, assign
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.graph.layers import layers
from rc_deploy.graph.precision import typed
from rc_deploy.runners import onnx_session
from rc_deploy.specs import Calibration, CalibrationMethod, Precision

if TYPE_CHECKING:
    from rc_deploy.engine.settings import Progress
    from rc_deploy.graph.layers import Layer
    from rc_deploy.sensitivity import Search

SET = "set.npz"


@pytest.fixture(scope="module")
def labelled(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with the classes that the float32 network gives them: its accuracy is 100%."""
    images = np.concatenate([data.load(f"random:{seed}", spec=SPEC).images for seed in range(4)])
    session = onnx_session(onnx.load(small_onnx), threads=2)
    logits = session.run(None, {"input": data.normalise(images, SPEC)})[0]
    path = tmp_path_factory.mktemp("labelled") / SET
    np.savez(path, images=images, labels=logits.argmax(1))
    return path


def options(data_set: Path, drop: float, *keep: str) -> PrecisionOptions:
    calibration = Calibration(f"npz:{data_set}", 100, CalibrationMethod.MINMAX)
    return PrecisionOptions(Precision.INT8, keep, calibration, max_accuracy_drop=drop)


@pytest.fixture(scope="module")
def all_int8(labelled: Path, small_onnx: Path) -> Search:
    found = assign(onnx.load(small_onnx), options(labelled, 100), "small").search
    assert found is not None
    return found


def test_nothing_stays_where_everything_is_allowed(all_int8: Search) -> None:
    assert all_int8.kept == ()
    assert all_int8.share == 100
    assert all_int8.held_out.float32 == 100


@pytest.fixture
def culprit(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> Layer:
    """One layer is given a tenth of its range."""
    found = layers(onnx.load(small_onnx))[4]

    def spoiled(*arguments: Any) -> onnx.ModelProto:
        source, precision, name, kept, ranges, calibration = arguments
        return typed(source, precision, name, kept, {**ranges, found.data: ranges[found.data] / 10}, calibration)

    monkeypatch.setattr(quantisation, "typed", spoiled)
    return found


def test_promise_is_kept_with_fewer_layers_than_all_convolutions(
    labelled: Path, small_onnx: Path, culprit: Layer
) -> None:
    model = onnx.load(small_onnx)
    seen: list[Progress] = []
    assigned = assign(model, options(labelled, 10), "small", seen.append)
    found = assigned.search
    assert found is not None
    assert max(found.layers, key=lambda item: item.change).node == culprit.node
    assert culprit.node in found.kept
    assert len(found.kept) < 9
    assert set(found.kept) == assigned.kept
    assert found.search.drop <= 10
    assert found.held_out.drop <= 10
    assert sum(part.images for part in (found.search, found.check, found.held_out)) == 4 * data.RANDOM_IMAGES - 100
    assert found.search.images == found.check.images <= found.held_out.images
    assert 0 < found.share < 100
    require_true_progress(seen, found)
    narrow = [node for node in assigned.graph.graph.node if node.name.startswith("dequantise_")]
    assert len({node.input[0] for node in narrow if ".weight" in node.input[0]}) == 10 - len(found.kept)
    assert json.dumps(found.to_json())
    assert _drop_of_all(labelled, model) > 10  # there was something to find


@dataclass
class Told:
    """Measurements that say from which number of layers on the check promises, and the held-out images prove."""

    promised: int
    proven: int
    looks: list[int] = field(default_factory=list)

    def promises(self, kept: frozenset[str]) -> bool:
        return len(kept) >= self.promised

    def proves(self, kept: frozenset[str]) -> bool:
        self.looks.append(len(kept))
        return len(kept) >= self.proven


@pytest.mark.parametrize(
    ("told", "kept", "looks"),
    [
        (Told(promised=0, proven=0), 0, [0]),
        (Told(promised=5, proven=3), 5, [0, 5]),
        (Told(promised=9, proven=0), 0, [0]),  # what is proven needs no check
        (Told(promised=0, proven=3), 3, [0, 1, 2, 3]),
        (Told(promised=6, proven=9), 8, [0, 6, 7]),  # all of them: there is nothing left to prove
        (Told(promised=9, proven=9), 8, [0]),
    ],
)
def test_as_many_layers_are_kept_as_other_images_ask_for(told: Told, kept: int, looks: list[int]) -> None:
    measured: Any = told
    assert sensitivity._extended(measured, frozenset(), list("abcdefgh")) == set("abcdefgh"[:kept])
    assert told.looks == looks


@pytest.mark.parametrize(
    ("images", "lost", "won", "asked", "looks", "within"),
    [
        (21845, 175, 153, 0.3, 1, True),  # a loss of 0.10 points, in an interval from -0.06 to 0.26
        (21845, 175, 153, 0.2, 1, False),
        (21845, 175, 153, 0.3, 10, False),  # the tenth assignment that was tried on these images
        (21845, 0, 0, 0.01, 1, True),
        (100, 1, 1, 0.1, 1, True),  # not even a network that changes nothing could prove so little on so few
        (100, 2, 1, 0.1, 1, False),
        (100, 1, 2, 0, 1, True),
    ],
)
def test_a_promise_is_kept_when_the_whole_interval_is_within(
    images: int, lost: int, won: int, asked: float, looks: int, within: bool
) -> None:
    found = accuracies.Accuracy(images, 90.0, 90.0 - 100 * (lost - won) / images, lost, won)
    assert found.within(asked, looks) == within


@pytest.mark.parametrize("most", range(9))
def test_bisection_finds_the_fewest_that_hold(most: int) -> None:
    for fewest in range(most + 1):
        tried: list[int] = []

        def holds(count: int, fewest: int = fewest, tried: list[int] = tried) -> bool:
            tried.append(count)
            return count >= fewest

        assert sensitivity._fewest(0, most, holds) == fewest
        assert len(tried) <= most.bit_length() + 1
        assert fewest > 0 or tried == [0][: most > 0]


def require_true_progress(seen: list[Progress], found: Search) -> None:
    """A bar that never goes back, never promises less than is left, and ends full."""
    steps = [progress for progress in seen if progress.name == accuracies.Work.NAME]
    done = [progress.done for progress in steps]
    assert done == sorted(done)
    assert done[0] == 0
    assert len(set(done)) > len(found.layers)
    totals = [progress.steps for progress in steps]
    assert totals == sorted(totals, reverse=True)
    assert steps[-1].finished
    assert done[-1] == totals[-1]


def _drop_of_all(labelled: Path, model: onnx.ModelProto) -> float:
    found = assign(model, options(labelled, 100), "small").search
    assert found is not None
    assert found.kept == ()
    return found.search.drop


def test_layers_that_are_kept_anyway_are_not_searched(labelled: Path, small_onnx: Path) -> None:
    assigned = assign(onnx.load(small_onnx), options(labelled, 100, "stem.*"), "small")
    assert assigned.search is not None
    assert assigned.search.kept == ("node_Conv_145",) or len(assigned.search.kept) == 1


def test_network_that_cannot_be_quantised_is_said_so(
    labelled: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def spoiled(*arguments: Any) -> onnx.ModelProto:
        source, precision, name, kept, ranges, calibration = arguments
        return typed(source, precision, name, kept, dict.fromkeys(ranges, 1e-3), calibration)

    monkeypatch.setattr(quantisation, "typed", spoiled)
    with pytest.raises(UnsupportedError, match="Not one layer of small can be int8 within 0 points"):
        assign(onnx.load(small_onnx), options(labelled, 0), "small")


def test_images_without_labels_and_too_few_are_refused(labelled: Path, small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    unlabelled = PrecisionOptions(
        Precision.INT8, (), Calibration("random:1", 10, CalibrationMethod.MINMAX), max_accuracy_drop=1
    )
    with pytest.raises(InputError, match=r"too few|no labels"):
        assign(model, unlabelled, "small")
    few = options(labelled, 1)
    with pytest.raises(InputError, match="too few to measure an accuracy on"):
        assign(
            model,
            PrecisionOptions(
                few.precision, (), Calibration(f"npz:{labelled}", 1000, CalibrationMethod.MINMAX), max_accuracy_drop=1
            ),
            "small",
        )


def test_measurements_are_made_once(labelled: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    real = accuracies.run

    def counting(*given: Any) -> Any:
        runs.append(1)
        return real(*given)

    monkeypatch.setattr(accuracies, "run", counting)
    found = assign(onnx.load(small_onnx), options(labelled, 100), "small").search
    assert found is not None
    # The float32 network on three sets of images, each layer alone, and each candidate.
    assert len(runs) == 3 + len(found.layers) + found.candidates
