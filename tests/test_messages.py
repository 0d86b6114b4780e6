"""Failures in words: provoked in TensorRT-RTX where they can be, else in the library's words as published."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rc_deploy.engine import compiler, library
from rc_deploy.engine.compiler import RefusedError
from rc_deploy.engine.contained import compile_graph
from rc_deploy.engine.messages import translate
from rc_deploy.engine.refusal import Failure
from rc_deploy.engine.runner import load_engine
from rc_deploy.engine.settings import Settings
from rc_deploy.errors import BuildError, InputError, RcDeployError, UnsupportedError
from rc_deploy.graph.from_torch import MODULE_KEY
from rc_deploy.graph.inline import inlined
from rc_deploy.specs import BatchRange

RTX = library.LIBRARIES["tensorrt-rtx"]
BATCH = BatchRange(1, 2, 4)


def model(*nodes: onnx.NodeProto, shape: tuple[int | str, ...] = (1, 4), **weights: Any) -> onnx.ModelProto:
    """A graph from x to y."""
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("rc", 1), helper.make_opsetid("other", 1)]
    graph = helper.make_graph(list(nodes), "g", values, results, tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(operator: str, *inputs: str, domain: str = "", module: str = "head.0", **attributes: Any) -> onnx.NodeProto:
    made = helper.make_node(operator, inputs, ["y"], name=f"the_{operator}", domain=domain, **attributes)
    made.metadata_props.add(key=MODULE_KEY, value=module)
    return made


def refusal(graph: onnx.ModelProto, batch: BatchRange = BATCH) -> RcDeployError:
    """What TensorRT-RTX's real refusal of a graph becomes."""
    with pytest.raises(RcDeployError) as raised, tempfile.TemporaryDirectory() as folder:
        compile_graph(RTX, graph.SerializeToString(), Settings((batch,), ("8.6",)), Path(folder) / "log")
    assert raised.value.hint
    assert f"TensorRT-RTX {library.version(RTX)}" in str(raised.value)
    return raised.value


def refusal_here(graph: onnx.ModelProto) -> RcDeployError:
    """The same in this process, where the way to compile can be tampered with."""
    said: list[str] = []
    settings = Settings((BATCH,), ("8.6",))
    with pytest.raises(RefusedError) as refused:
        compiler.compile_graph(
            pytest.importorskip("tensorrt_rtx"),
            settings,
            lambda severity, message: said.append(message) if severity == "ERROR" else None,
            lambda _: None,
            graph.SerializeToString(),
        )
    return translate(Failure(RTX.title, library.version(RTX), refused.value.phase, tuple(said)), graph)


@pytest.mark.parametrize(
    ("operator", "attributes", "mistaken"),
    [
        ("Det", {}, False),  # known by name, refused
        ("DFT", {}, True),  # unknown: the parser looks for a plugin of that name
        ("Fancy", {"domain": "other"}, True),
    ],
)
def test_unsupported_operator_is_not_mistaken_for_a_missing_plugin(
    operator: str, attributes: dict[str, Any], mistaken: bool
) -> None:
    error = refusal(model(node(operator, "x", **attributes), shape=(4, 4)))
    assert type(error) is BuildError
    assert f"refuses the graph: it does not support operator {operator}" in str(error)
    assert f"(operator {operator} of node 'the_{operator}', in PyTorch module head.0)" in str(error)
    assert ("looked for a plugin" in str(error)) == mistaken
    assert ("Plugin not found" in str(error)) == mistaken
    assert "inspect" in error.hint


def test_missing_plugin() -> None:
    ours = node("GCLU", "x", domain="rc", approximate="none", plugin_namespace="rc", plugin_version="1")
    error = refusal(model(ours))
    assert isinstance(error, UnsupportedError)
    assert "a plugin that it needs is not registered (operator GCLU of node 'the_GCLU', in PyTorch module" in str(error)
    assert "librc_trt.so" in error.hint
    assert "--plugins off" in error.hint


@pytest.mark.parametrize(
    ("operator", "shape", "weights"),
    [("Add", (1, 4), (4,)), ("MatMul", (1, 4), (4, 3)), ("Conv", (1, 3, 8, 8), (4, 3, 3, 3))],
)
def test_strongly_typed_network(operator: str, shape: tuple[int, ...], weights: tuple[int, ...]) -> None:
    error = refusal(model(node(operator, "x", "w"), shape=shape, w=np.zeros(weights, np.float16)))
    assert type(error) is BuildError
    assert "types differ where they must be the same" in str(error)
    assert f"operator {operator} of node 'the_{operator}', in PyTorch module head.0" in str(error)
    assert "cudaError 35" not in str(error), "an echo of this machine having no driver hides what happened"


def test_node_out_of_a_body_names_the_module_that_called_it(small_onnx: Path) -> None:
    """A type mismatch planted in the body of one GCLU: the parser names a node that the file does not hold."""
    graph = inlined(onnx.load(small_onnx))
    spoiled = next(item for item in graph.graph.node if item.name == "node_gclu_1/twice_tail")
    graph.graph.initializer.append(numpy_helper.from_array(np.ones((), np.float16), "half_one"))
    spoiled.input[0] = "half_one"
    assert "node 'node_gclu_1/twice_tail', in PyTorch module stages.0.0.branch.2" in str(refusal(graph))


@pytest.mark.parametrize("batch", [(4, 2, 1), (1, 2, 4)])
def test_profile_mismatch(batch: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes out of order, then a profile for images of another size than the graph's."""
    right = compiler._profile

    def wrong(lib: Any, builder: Any, network: Any, _: BatchRange) -> Any:
        profile: Any = right(lib, builder, network, BatchRange(1, 1, 1))
        profile.set_shape("x", *((size, 4 if batch[0] == 4 else 5) for size in batch))
        return profile

    monkeypatch.setattr(compiler, "_profile", wrong)
    error = refusal_here(model(node("Relu", "x"), shape=("N", 4)))
    assert isinstance(error, UnsupportedError)
    assert "built nothing: the shapes asked for do not fit" in str(error)
    assert "--batch MIN:OPT:MAX" in error.hint


def test_no_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions without a byte of workspace."""
    trt = pytest.importorskip("tensorrt_rtx")
    right = compiler._set_target

    def starved(module: Any, config: Any, capabilities: tuple[str, ...]) -> None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1024)
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_SHARED_MEMORY, 1024)
        right(module, config, capabilities)

    monkeypatch.setattr(compiler, "_set_target", starved)
    error = refusal_here(
        model(node("Conv", "x", "w"), shape=("N", 64, 224, 224), w=np.zeros((64, 64, 3, 3), np.float32))
    )
    assert "built nothing: no implementation of these layers fits into the workspace" in str(error)
    assert "--batch" in error.hint


def loading(content: bytes) -> RcDeployError:
    """What TensorRT-RTX's real refusal to load an engine becomes."""
    try:
        load_engine(RTX, content)
    except RcDeployError as error:
        return error
    pytest.skip("this machine has a GPU, which runs the engine")


def test_missing_driver(small_engine: Path) -> None:
    error = loading(small_engine.read_bytes())
    assert isinstance(error, UnsupportedError)
    assert "does not load the engine: the NVIDIA driver is missing" in str(error)
    assert "error 35" in str(error)
    assert "doctor" in error.hint


def test_engine_of_another_version(small_engine: Path) -> None:
    """The engine's header with another serialisation tag, as another version or library writes it."""
    content = bytearray(small_engine.read_bytes())
    content[0] ^= 0x55
    error = loading(bytes(content))
    assert isinstance(error, UnsupportedError)
    assert "was built by another version" in str(error)
    assert "build it again" in error.hint


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_engine(share: float, small_engine: Path) -> None:
    content = small_engine.read_bytes()
    error = loading(content[: int(len(content) * share)])
    assert isinstance(error, InputError)
    assert "truncated or damaged" in str(error)


# What only TensorRT on a GPU says, as its users and its vendor have published it: the words, and where. Too little
# memory was provoked in TensorRT-RTX (RLIMIT_AS 300 MB and 200 MB above its use, before a build with 210 MB of
# weights), but is no test: with other limits the library does not come back.
PUBLISHED = [
    pytest.param(
        "build",
        "[myelinResourceManager.cpp::virtual void* nvinfer1::rt::MyelinHostBuffer::allocate(const string&, "
        "cudaStream_t)::206] Error Code 2: OutOfMemory (Requested size was 209715583 bytes.)",
        UnsupportedError,
        "ran out of memory",
        id="memory: provoked, TensorRT-RTX 1.7.1",
    ),
    pytest.param(
        "build",
        "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([myelin_graph.h:1295: attachExceptionMsgToGraph] "
        "MyelinCheckException: myelin_tensor.h:47: CHECK(p) failed.  In compileGraph at "
        "/_src/optimizer/myelin/codeGenerator.cpp:2012)",
        UnsupportedError,
        "ran out of memory",
        id="memory, without the word: provoked, TensorRT-RTX 1.7.1",
    ),
    pytest.param(
        "load",
        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
        "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 237, Serialized Engine "
        "Version: 239)",
        UnsupportedError,
        "built by another version",
        id="version: yuvraj108c/ComfyUI-Dwpose-Tensorrt, issue 5, TensorRT 10",
    ),
    pytest.param(
        "build",
        "[optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any implementation for "
        "node {ForeignNode[the_Erf.../layers.7/Transpose_2 + /layers.7/Reshape_4]}.)",
        BuildError,
        r"no implementation for these layers.*\(Erf 'the_Erf', in PyTorch module head.0\)",
        id="no implementation: Wanglaoban3/sparsedrive-tensorrt-deploy-implement, issue 3; first node's name is ours",
    ),
    pytest.param(
        "build",
        "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)\n"
        "Requested amount of GPU memory (34359738368 bytes) could not be allocated. There may not be enough free "
        "memory for allocation to succeed.",
        UnsupportedError,
        "ran out of memory",
        id="memory: aws/amazon-sagemaker-examples, issue 4655",
    ),
    pytest.param(
        "load",
        "[pluginV2Runner.cpp::load::299] Error Code 1: Serialization (Serialization assertion creator failed.Cannot "
        "deserialize plugin since corresponding IPluginCreator not found in Plugin Registry)",
        UnsupportedError,
        "plugin that it needs is not registered",
        id="plugin: wang-xinyu/tensorrtx, issue 1388",
    ),
    pytest.param(
        "load",
        "CUDA initialization failure with error: 35. Please check your CUDA installation:  "
        "http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html",
        UnsupportedError,
        "NVIDIA driver is missing",
        id="driver: NVIDIA/TensorRT, issue 2913",
    ),
    pytest.param(
        "run",
        "[executionContext.cpp::validateInputBindings::2045] Error Code 3: API Usage Error (Parameter check failed "
        "at: runtime/api/executionContext.cpp::validateInputBindings::2045, condition: profileMaxDims.d[i] >= "
        "dimensions.d[i]. Supplied binding dimension [1,308,768] for bindings[2] exceed min ~ max range at index 1, "
        "maximum dimension in profile is 231, minimum dimension in profile is 77, but supplied dimension is 308.\n)",
        UnsupportedError,
        "shapes asked for do not fit",
        id="profile: AUTOMATIC1111/stable-diffusion-webui-tensorrt, issue 71",
    ),
]


@pytest.mark.parametrize(("phase", "words", "kind", "expected"), PUBLISHED)
def test_published_words(phase: Any, words: str, kind: type[RcDeployError], expected: str) -> None:
    failure = Failure("TensorRT", "10.13.0", phase, tuple(words.split("\n")), log=Path("build.log"))
    error = translate(failure, model(node("Erf", "x")))
    assert type(error) is kind
    assert re.search(expected, str(error))
    assert "Its whole log is in build.log." in str(error)
    assert error.hint


def test_unknown_words_are_quoted() -> None:
    error = translate(Failure("TensorRT", "10.13.0", "build", ("Error Code 9: the moon is full",)))
    assert type(error) is BuildError
    assert "a reason that rc-deploy does not know. It said: Error Code 9: the moon is full." in str(error)
    assert "It said: nothing." in str(translate(Failure("TensorRT", "10.13.0", "build")))
