"""Which nodes are layers, which predict statistics, and how patterns name them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from rc_deploy.errors import InputError
from rc_deploy.graph.layers import layers, matching, statistics


def test_layers_are_convolutions_and_the_classifier(small_onnx: Path) -> None:
    found = layers(onnx.load(small_onnx))
    assert [layer.operator for layer in found] == ["Conv"] * 9 + ["Gemm"]
    stem, *_, classifier = found
    assert (stem.module, stem.data, stem.channels) == ("stem.0", "input", 0)
    assert stem.parameters == 16 * 3 * 9
    assert stem.macs == 16 * 3 * 9 * 16 * 16
    assert (classifier.module, classifier.macs) == ("classifier", 640)


def test_statistics_are_pooling_and_heads(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    kinds = [node.op_type for node in model.graph.node if node.name in statistics(model)]
    assert sorted(kinds) == ["Gemm"] * 9 + ["ReduceMean"] * 3
    assert not statistics(model) & {layer.node for layer in layers(model)}


def test_patterns_name_nodes_and_modules(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    modules = {layer.node: layer.module for layer in layers(model)}
    assert {modules[node] for node in matching(model, ["stages.1.0.branch.?"]) & modules.keys()} == {
        "stages.1.0.branch.0",
        "stages.1.0.branch.3",
    }
    stem = layers(model)[0].node
    assert matching(model, [stem]) == {stem}
    assert matching(model, []) == frozenset()


def test_pattern_that_matches_nothing_lists_what_there_is(small_onnx: Path) -> None:
    with pytest.raises(InputError, match=r"'stage1\.\*' matches no node and no module") as raised:
        matching(onnx.load(small_onnx), ["stem.*", "stage1.*"])
    assert "stem.0, stages.0.0.branch.0" in raised.value.hint
