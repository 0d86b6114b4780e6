"""Engines without weights: how they are built, and how the weights come back. The library is a stand-in here: both need
a GPU, and tests/gpu has the real thing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest

from rc_deploy import manifest
from rc_deploy.engine import compiler, runner
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.engine.refit import refit
from rc_deploy.engine.runner import runner_of
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import InputError
from rc_deploy.graph.inline import inlined

RTX = LIBRARIES["tensorrt-rtx"]
GRAPH = b"the graph"


@dataclass
class Library:
    """What a library does when it refits, and what it was asked."""

    takes: bool = True
    missing: list[str] = field(default_factory=list)
    refits: bool = True
    errors: list[str] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)

    def module(self) -> Any:
        def taken(graph: bytes) -> bool:
            self.calls.append(graph)
            return self.takes

        def finished() -> bool:
            self.calls.append("refit")
            return self.refits

        refitter = SimpleNamespace(get_missing_weights=lambda: self.missing, refit_cuda_engine=finished)
        parser = SimpleNamespace(
            refit_from_bytes=taken,
            num_errors=len(self.errors),
            get_error=lambda index: SimpleNamespace(desc=lambda: self.errors[index]),
        )

        class Logger:
            Severity = SimpleNamespace(ERROR=1)

        module: Any = ModuleType("library")
        module.ILogger = Logger
        module.Refitter = lambda engine, log: refitter
        module.OnnxParserRefitter = lambda given, log: parser
        return module


def test_the_graph_is_given_back_whole() -> None:
    library = Library()
    refit(library.module(), RTX, object(), GRAPH)
    assert library.calls == [GRAPH, "refit"]


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (Library(takes=False, errors=["no such weight"]), "it said: no such weight"),
        (Library(missing=["stem.weight", "head.bias"]), "2 weights are missing, the first being stem.weight"),
        (Library(refits=False), "it said: nothing"),
    ],
)
def test_what_is_not_whole_is_refused(library: Library, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        refit(library.module(), RTX, object(), GRAPH)
    assert "typed ONNX" in caught.value.hint
    assert "refit" not in library.calls or not library.refits


@pytest.mark.parametrize(
    ("asked", "flags"),
    [
        ({}, set()),
        ({"strip_weights": True}, {"STRIP_PLAN", "REFIT_IDENTICAL"}),
        ({"refittable": True}, {"REFIT"}),
        ({"strip_weights": True, "refittable": True}, {"STRIP_PLAN", "REFIT"}),
    ],
)
def test_flags(asked: dict[str, Any], flags: set[str]) -> None:
    found: set[str] = set()
    lib = pytest.importorskip("tensorrt_rtx")
    config: Any = SimpleNamespace(set_flag=lambda flag: found.add(flag.name), clear_flag=lambda _: None)
    compiler._set_options(lib, config, Settings((), (), **asked))
    assert found == flags


def test_a_runner_is_given_the_graph_that_was_compiled(small_engine: Path) -> None:
    record = manifest.read(small_engine)
    assert runner_of(record, small_engine)._weights is None
    stripped = replace(record, options={**record.options, "strip_weights": True})
    assert runner_of(stripped, small_engine)._weights == (
        inlined(onnx.load(small_engine.with_suffix(".onnx"))).SerializeToString()
    )


@pytest.mark.parametrize("weights", [None, GRAPH])
def test_loading_refits_what_has_no_weights(weights: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    module = library.module()
    module.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda content: content)
    monkeypatch.setattr(runner, "require", lambda *_: module)
    assert runner.load_engine(RTX, b"engine", weights=weights) == b"engine"
    assert library.calls == ([GRAPH, "refit"] if weights else [])
