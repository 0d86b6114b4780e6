"""The words of TensorRT and TensorRT-RTX, translated: what happened, where in the network, why, and what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy.errors import BuildError, InputError, RcDeployError, UnsupportedError
from rc_deploy.graph.from_torch import MODULE_KEY
from rc_deploy.schema import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto, NodeProto

    from rc_deploy.engine.refusal import Failure, ParserError

_STAGE = {
    "parse": "'s parser refuses the graph",
    "build": " built nothing",
    "load": " does not load the engine",
    "run": " does not run the engine",
}
# After any error these libraries ask the driver whether CUDA is at fault, and without one report that as well.
_ECHO = re.compile(r"\[checkMacros\.cpp::catchCudaError")
_LONGEST_QUOTE = 400
_ELEMENT = re.compile(r"[\w./:-]+")


@dataclass(frozen=True)
class _Cause:
    """What a failure means: `pattern` is found in the library's words; its groups fill `says` and `hint`."""

    pattern: re.Pattern[str]
    says: str
    hint: str
    error: type[RcDeployError] = BuildError


def _cause(pattern: str, says: str, hint: str, error: type[RcDeployError] = BuildError) -> _Cause:
    return _Cause(re.compile(pattern, re.IGNORECASE | re.DOTALL), says, hint, error)


# The first that is found counts, so what hides behind others stands first: too little memory makes a library look for
# implementations in vain.
_CAUSES = (
    _cause(
        # CHECK(p): what is left of a failed allocation in the compiler
        r"out ?of ?memory|could not be allocated|bad_alloc|MEM_ALLOC_FAILED|cudaError 2\b|CHECK\(p\) failed",
        "it ran out of memory",
        "Free memory (`nvidia-smi` lists what uses the GPU's), or build for smaller batches: --batch 1:8:16",
        UnsupportedError,
    ),
    _cause(
        r"no tactics to implement the operation within workspace limit",
        "no implementation of these layers fits into the workspace memory that it may use",
        "Build for smaller batches, --batch 1:8:16, or on a machine whose GPU has more free memory.",
    ),
    _cause(
        r"Could not find any implementation for node|no tactics to implement",
        "it has no implementation for these layers in the types and shapes of the graph",
        "Build that part in float32, or everything with --fp32; a later version of the library may have one.",
    ),
    _cause(
        r"Version tag does not match|incompatible serialization version|magicTag ==",
        "the engine was built by another version, or its file is not one of this library's engines",
        "Engines run in the version that built them: build it again here, rc-deploy build MODEL.onnx. "
        "`rc-deploy inspect ENGINE` names that version.",
        UnsupportedError,
    ),
    _cause(
        r"header\.size == blobSize|offset >= cursor|cursor < blobSize|empty memory buffer|CRC|checksum",
        "the engine's file is truncated or damaged",
        "Copy it again, or build it again: rc-deploy build MODEL.onnx",
        InputError,
    ),
    _cause(
        r"IPluginCreator not found|could not find plugin|Cannot find plugin|Plugin not found",
        "a plugin that it needs is not registered",
        "Make librc_trt.so with `make native` and name its folder in RC_DEPLOY_LIBRARIES, or build with --plugins off.",
        UnsupportedError,
    ),
    _cause(
        r"cudaError 35\b|failure with error:? 35\b|CUDA driver version is insufficient",
        "the NVIDIA driver is missing, or older than the library needs (CUDA error 35)",
        "`rc-deploy doctor` shows GPU and driver. Without a GPU, `rc-deploy validate ENGINE` runs the typed ONNX that "
        "the engine was compiled from.",
        UnsupportedError,
    ),
    _cause(
        r"cudaError (?P<code>\d+)|CUDA initialization failure with error:? (?P<number>\d+)",
        "the GPU or its driver fails",
        "`rc-deploy doctor` shows GPU and driver; `nvidia-smi` says whether the GPU answers.",
        UnsupportedError,
    ),
    _cause(
        r"must have (the )?same input types|must be of (the )?same type|strongly typed",
        "types differ where they must be the same: a strongly typed network is taken as its graph states it",
        "Build from the float32 file that `rc-deploy export` wrote, whose conversion keeps types together; in a graph "
        "of your own put a Cast before that node.",
    ),
    _cause(
        r"optimization profile|and profile \d|in profile|profile \d+ has|exceed min ~ max|Static dimension mismatch",
        "the shapes asked for do not fit the graph's or the engine's profile",
        "--batch MIN:OPT:MAX must hold every batch size that will be run, smallest first; `rc-deploy inspect` shows a "
        "file's shapes.",
        UnsupportedError,
    ),
)


def translate(failure: Failure, model: ModelProto | None = None) -> RcDeployError:
    """Return the error that says in words what a library's failure means.

    Args:
        failure: what the library said.
        model: the graph that it was given, which names the PyTorch module behind a node; None where there is none.

    Returns:
        BuildError where the graph is at fault, InputError where the engine's file is, UnsupportedError where this
        machine or this version of the library cannot do what was asked.
    """
    words = _words(failure)
    parser = failure.parser_errors[0] if failure.parser_errors else None
    cause = _operator_missing(parser, model) or next((cause for cause in _CAUSES if cause.pattern.search(words)), None)
    says = cause.says if cause else "it gives a reason that rc-deploy does not know"
    place = _place(parser, words, model)
    message = f"{failure.title} {failure.version}{_STAGE[failure.phase]}: {says}{place}. It said: {_quote(words)}."
    log = f" Its whole log is in {failure.log}." if failure.log else ""
    hint = cause.hint if cause else "`rc-deploy inspect` shows what a file holds, `rc-deploy doctor` this machine."
    return (cause.error if cause else BuildError)(message + log, hint)


def _words(failure: Failure) -> str:
    """Return everything the library said but for echoes, unless they are all there is."""
    parser = [f"{error.code}: {error.description}" for error in failure.parser_errors]
    said = parser or failure.errors
    lines = [line for text in said for line in text.splitlines() if line.strip()]
    return "\n".join([line for line in lines if not _ECHO.search(line)] or lines)


def _operator_missing(error: ParserError | None, model: ModelProto | None) -> _Cause | None:
    """Tell an operator that the parser does not have from a plugin that is not there.

    A parser looks for a plugin wherever it has no operator of that name, and then says that the plugin is missing.
    """
    if error is None:
        return None
    fallback = "Plugin not found" in error.description
    node = _node(error.node, error.operator, model)
    ours = node is not None and node.domain == DOMAIN
    if (fallback and not ours) or (error.code.startswith("UNSUPPORTED_NODE") and not fallback and error.operator):
        looked = "; it looked for a plugin of that name only because of that" if fallback else ""
        return _cause(
            "",
            f"it does not support operator {error.operator}{looked}",
            "`rc-deploy inspect MODEL.onnx` lists the model's operators; the network must do without that one, or "
            "with other attributes.",
        )
    return None


def _place(error: ParserError | None, words: str, model: ModelProto | None) -> str:
    """Return where in the network it happened: nodes, operators and PyTorch modules, as far as they are known."""
    if error is not None and (error.node or error.operator):
        node = _node(error.node, error.operator, model)
        return f" (operator {error.operator} of node '{error.node}'{_module([node] if node else [])})"
    nodes = _mentioned(words, model)
    names = ", ".join(f"{node.op_type} '{node.name}'" for node in nodes)
    return f" ({names}{_module(nodes)})" if nodes else ""


def _node(name: str, operator: str, model: ModelProto | None) -> NodeProto | None:
    nodes = model.graph.node if model and name else ()
    return next((node for node in nodes if node.name == name and node.op_type == operator), None)


def _mentioned(words: str, model: ModelProto | None) -> list[NodeProto]:
    """Return the nodes whose names stand in `words`, where a library writes "{ForeignNode[first...last]}" of many."""
    names = {part for word in _ELEMENT.findall(words) for part in (word, word.strip(".:"), *word.split("..."))}
    return [node for node in (model.graph.node if model else ()) if node.name and node.name in names]


def _module(nodes: Sequence[NodeProto]) -> str:
    modules = [entry.value for node in nodes for entry in node.metadata_props if entry.key == MODULE_KEY]
    return f", in PyTorch module {' and '.join(dict.fromkeys(modules))}" if modules else ""


def _quote(words: str) -> str:
    text = "; ".join(dict.fromkeys(words.splitlines())).rstrip(".") or "nothing"
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE].rstrip() + "…"
