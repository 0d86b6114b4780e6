"""Plugins or bodies: which form of a graph reaches TensorRT's parser, and proof of what became of its `rc` nodes.

TensorRT's parser takes a node with plugin attributes to a plugin (10.7 and later) or expands a function of that name
(9.0 to 10.6, always), and says nothing of it. Here it has no choice: the graph for plugins has no bodies, the graph
without has no `rc` nodes. TensorRT-RTX is never given plugins: its parser aborts the process where one is registered.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rc_deploy import native
from rc_deploy.errors import BuildError, InputError, UnsupportedError
from rc_deploy.graph.bodies import rc_nodes
from rc_deploy.graph.inline import inlined
from rc_deploy.schema import DOMAIN

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.engine.library import Library

PLUGIN_LIBRARY = "librc_trt.so"


class Plugins(StrEnum):
    """What shall become of `rc` nodes: whatever is faster, plugins or nothing, or no plugins."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"

    @classmethod
    def parse(cls, text: str) -> Plugins:
        """Return the policy of that name. Raises InputError where there is none."""
        if text not in [*cls]:
            raise InputError(f"'{text}' is no way to treat plugins.", "Give --plugins auto, require or off.")
        return cls(text)


def find(library: Library, policy: Plugins) -> Path | None:
    """Return the plugin library to build with; None where there is none, or none is to be used.

    Raises:
        UnsupportedError: plugins are required, and `library` takes none or librc_trt.so is not there.
        InputError: the folder that RC_DEPLOY_LIBRARIES names does not hold it.
    """
    if policy is Plugins.OFF:
        return None
    if not library.takes_plugins:
        if policy is Plugins.REQUIRE:
            raise UnsupportedError(
                f"{library.title} cannot run plugins: where one of a node's name is registered, its parser ends the "
                "process.",
                "Build with --plugins auto, which runs the operators' bodies there, or with --backend tensorrt.",
            )
        return None
    path = native.library(PLUGIN_LIBRARY)
    if path is None and policy is Plugins.REQUIRE:
        raise UnsupportedError(
            f"Plugins are required, and {PLUGIN_LIBRARY} is not there.",
            f"Make it with `make native` and set {native.VARIABLE}=build/plugins/lib, or build with --plugins auto.",
        )
    return path


def _plugin_form(model: ModelProto) -> ModelProto:
    """Return `model` for a parser that has our plugins: `rc` nodes fused as far as they go, without their bodies."""
    from rc_deploy.graph.fuse import fused  # imports onnx-ir and SymPy, which half of a small build's time would go to

    result = fused(model)
    kept = [function for function in result.functions if function.domain != DOMAIN]
    del result.functions[:]
    result.functions.extend(kept)
    return inlined(result)


def compiled_form(model: ModelProto, with_plugins: bool) -> ModelProto:
    """Return what a library's parser is given for a typed graph: a graph without functions, maybe the same."""
    return _plugin_form(model) if with_plugins else inlined(model)


def layer_information(trt: Any, engine: Any) -> str:
    """Return what a loaded engine says of its layers, as JSON; types of layers only if it was built to tell them."""
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def plugin_layers(information: str) -> list[str]:
    """Return what names the plugin layers in an engine's own layer information: name and ONNX nodes of each.

    Raises:
        BuildError: the information is not JSON, or tells no types.
    """
    try:
        layers = json.loads(information)["Layers"]
        return [
            f"{layer['Name']} {layer.get('Metadata', '')}"
            for layer in layers
            if str(layer["LayerType"]).startswith("Plugin")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"The engine does not say of what type its layers are ({error!r}): nothing proves that it holds plugins.",
            "Build with --plugins off, and report this with the library's version.",
        ) from error


def require_plugins(information: str, graph: ModelProto) -> int:
    """Require that every `rc` node of `graph` became a plugin layer of its own; return how many there are.

    Args:
        information: what the built engine says of its layers.
        graph: that it was built from.

    Raises:
        BuildError: a node did not; or the engine does not tell.
    """
    layers = plugin_layers(information)
    nodes = [node.name for node in rc_nodes(graph)]
    missing = [name for name in nodes if not any(_names(layer, name) for layer in layers)]
    if missing or len(layers) < len(nodes) or not nodes:
        raise BuildError(
            f"Of {len(nodes)} rc nodes, {len(nodes) - len(missing)} became plugins"
            + (f"; the first that did not is '{missing[0]}'." if missing else "."),
            "Build with --plugins auto to take what is faster, or off.",
        )
    return len(nodes)


def _names(layer: str, node: str) -> bool:
    return re.search(rf"(?<![\w./:-]){re.escape(node)}(?![\w./:-])", layer) is not None
