"""Plugins or bodies: the policy, the two forms of a graph, the proof, and that TensorRT-RTX is never given plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from rc_deploy import manifest
from rc_deploy.engine import BuildOptions, build, choice, library, plugins
from rc_deploy.engine.contained import compile_graph
from rc_deploy.engine.plugins import Plugins
from rc_deploy.engine.registry import load_plugins
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import BuildError, InputError, UnsupportedError
from rc_deploy.graph.bodies import rc_nodes
from rc_deploy.specs import BatchRange

if TYPE_CHECKING:
    from collections.abc import Callable

TENSORRT, RTX = library.LIBRARIES["tensorrt"], library.LIBRARIES["tensorrt-rtx"]


@pytest.fixture
def plugin_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the plugin library's name, in the folder that is named for it."""
    path = tmp_path / "lib" / plugins.PLUGIN_LIBRARY
    path.parent.mkdir()
    path.write_bytes(b"not a library")
    monkeypatch.setenv("RC_DEPLOY_LIBRARIES", str(path.parent))
    return path


@pytest.mark.parametrize(
    ("chosen", "policy", "found"),
    [
        (TENSORRT, "auto", True),
        (TENSORRT, "require", True),
        (TENSORRT, "off", False),
        (RTX, "auto", False),
        (RTX, "off", False),
    ],
)
def test_policy(chosen: library.Library, policy: str, found: bool, plugin_library: Path) -> None:
    assert plugins.find(chosen, Plugins.parse(policy)) == (plugin_library if found else None)


def test_require_is_refused_where_it_cannot_be_kept(plugin_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="TensorRT-RTX cannot run plugins.*its parser ends the process"):
        plugins.find(RTX, Plugins.REQUIRE)
    monkeypatch.setenv("RC_DEPLOY_LIBRARIES", "")
    with pytest.raises(UnsupportedError, match=r"librc_trt.so is not there"):
        plugins.find(TENSORRT, Plugins.REQUIRE)
    assert plugins.find(TENSORRT, Plugins.AUTO) is None
    with pytest.raises(InputError, match="'always' is no way"):
        Plugins.parse("always")


def test_tensorrt_rtx_builds_bodies_whatever_library_is_there(
    small_onnx: Path, plugin_library: Path, tmp_path: Path, here: Callable[..., tuple[object, str]]
) -> None:
    result = build(small_onnx, tmp_path / "m.engine", BuildOptions(backend="tensorrt-rtx"))
    assert result.manifest.plugins == []
    assert manifest.read(tmp_path / "m.engine").rc_nodes == {
        "asked": "auto",
        "plugins": 0,
        "why": "TensorRT-RTX takes no plugins",
        "milliseconds": {},
    }
    code, said = here(
        "build", small_onnx, "--backend", "tensorrt-rtx", "--plugins", "require", "-o", tmp_path / "n.engine"
    )
    assert code == UnsupportedError.exit_code
    assert "cannot run plugins" in said
    assert not (tmp_path / "n.engine").exists()


def test_plugins_are_never_loaded_into_tensorrt_rtx(plugin_library: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    with pytest.raises(UnsupportedError, match="takes no plugins"):
        load_plugins(trt, RTX, plugin_library)


@pytest.mark.parametrize("version", ["10.0.1", "10.3.0", "10.6.0", "10.11.0"])
def test_versions_that_choose_for_themselves_are_refused(version: str) -> None:
    """TensorRT 9.0 to 10.6 take a function before a plugin, 10.7 and later the other way round."""
    with pytest.raises(UnsupportedError, match=r"10\.12 or later is needed"):
        library.require_recent(TENSORRT, version)


@pytest.fixture(scope="module")
def form(small_engine: Path) -> onnx.ModelProto:
    """The small network's typed graph, for plugins."""
    return plugins.compiled_form(onnx.load(small_engine.with_suffix(".onnx")), with_plugins=True)


def test_a_parser_has_no_choice(small_engine: Path, form: onnx.ModelProto) -> None:
    typed = onnx.load(small_engine.with_suffix(".onnx"))
    assert typed.functions
    assert not form.functions
    assert {node.op_type for node in rc_nodes(form)} == {node.op_type for node in rc_nodes(typed)}
    for node in rc_nodes(form):
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert given["plugin_namespace"], given["plugin_version"] == (b"rc", b"1")
        assert node.name


def test_tensorrt_rtx_refuses_the_form_for_plugins(form: onnx.ModelProto, tmp_path: Path) -> None:
    """A real parser, which has no plugins: it does not pass in silence."""
    settings = Settings((BatchRange(1, 2, 4),), ("8.6",))
    with pytest.raises(UnsupportedError, match="a plugin that it needs is not registered"):
        compile_graph(RTX, form.SerializeToString(), settings, tmp_path / "log")


def information(form: onnx.ModelProto, kind: str = "PluginV3", left_out: int = 0) -> str:
    """Layer information as TensorRT's inspector writes it for engines with detailed verbosity."""
    names = [node.name for node in rc_nodes(form)][left_out:]
    layers = [{"Name": name, "LayerType": kind, "Metadata": f"[ONNX Layer: {name}]"} for name in names]
    return json.dumps({"Layers": [{"Name": "node_Conv_1", "LayerType": "gemm"}, *layers], "Bindings": []})


def test_every_node_must_be_a_plugin_layer(form: onnx.ModelProto) -> None:
    count = len(list(rc_nodes(form)))
    assert plugins.require_plugins(information(form), form) == count
    # node_gclu is left out, and its name begins those of others
    with pytest.raises(BuildError, match=f"Of {count} rc nodes, {count - 1} became plugins.*'node_gclu'"):
        plugins.require_plugins(information(form, left_out=1), form)
    with pytest.raises(BuildError, match=f"Of {count} rc nodes, 0 became plugins"):
        plugins.require_plugins(information(form, kind="kgen"), form)


@pytest.mark.parametrize("text", ["", "{}", '{"Layers": ["node_gclu"]}', '{"Layers": [{"Name": "node_gclu"}]}'])
def test_an_engine_that_does_not_tell_proves_nothing(text: str, form: onnx.ModelProto) -> None:
    with pytest.raises(BuildError, match="nothing proves"):
        plugins.require_plugins(text, form)


class Pretended:
    """A runner that counts."""

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def run(self, images: Any) -> None:
        self.times.append(0)


def test_measured_runners_take_turns() -> None:
    order: list[float] = []
    first, second = Pretended(order), Pretended(order)
    assert len(choice.medians([first, second], None)) == 2  # type: ignore[arg-type,list-item]
    assert len(order) == 2 * (choice.WARM_UP + choice.ROUNDS)
