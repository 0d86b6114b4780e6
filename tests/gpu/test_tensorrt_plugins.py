"""The TensorRT plugins in engines that TensorRT builds and runs, against float64.

Not yet run on a GPU: see docs/gpu-status.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import reference
from bounds import assert_within, gclu_bound
from native_build import built_with_cuda
from native_cuda import Kernels
from rc_deploy.tolerances import RC_ARITHMETIC, operator_bound

trt = pytest.importorskip("tensorrt", reason="TensorRT is not installed")

DTYPES = {"float32": trt.float32, "float16": trt.float16, "bfloat16": trt.bfloat16}


@pytest.fixture(scope="module", autouse=True)
def library() -> Any:
    registry = trt.get_plugin_registry()
    handle = registry.load_library(str(built_with_cuda("librc_trt.so")))
    assert handle is not None
    yield handle
    registry.deregister_library(handle)


def run_plugin(name: str, field: Any, inputs: list[torch.Tensor], dtype: str) -> torch.Tensor:
    """Build an engine of one plugin with a dynamic batch, serialise, deserialise and run it."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 knows nothing else
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    tensors = []
    for index, tensor in enumerate(inputs):
        batch = tensor.shape[0]
        dynamic = not (name == "CalibratedTail" and index >= 2)  # but for weights
        tensors.append(network.add_input(f"x{index}", DTYPES[dtype], (-1 if dynamic else batch, *tensor.shape[1:])))
        if dynamic:
            profile.set_shape(f"x{index}", *[(size, *tensor.shape[1:]) for size in (1, batch, batch)])
    config.add_optimization_profile(profile)
    creator = trt.get_plugin_registry().get_creator(name, "1", "rc")
    plugin = creator.create_plugin(name, trt.PluginFieldCollection([field]), trt.TensorRTPhase.BUILD)
    layer = network.add_plugin_v3(tensors, [], plugin)
    layer.get_output(0).name = "y"
    network.mark_output(layer.get_output(0))
    engine = trt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    assert engine.get_tensor_dtype("y") == DTYPES[dtype]
    context = engine.create_execution_context()
    y = torch.full_like(inputs[0], float("nan"))
    for index, tensor in enumerate(inputs):
        context.set_input_shape(f"x{index}", tuple(tensor.shape))
        context.set_tensor_address(f"x{index}", tensor.data_ptr())
    context.set_tensor_address("y", y.data_ptr())
    assert context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
    torch.cuda.synchronize()
    return y


def double(tensor: torch.Tensor) -> Any:
    return tensor.double().cpu().numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["none", "sigmoid", "tanh"])
def test_gclu(dtype: str, form: str) -> None:
    x = (3 * torch.randn(5, 3, 7, 11, device="cuda")).to(getattr(torch, dtype))
    field = trt.PluginField("approximate", np.frombuffer(form.encode(), np.int8), trt.PluginFieldType.CHAR)
    exact = reference.gclu(double(x), form)
    assert_within(double(run_plugin("GCLU", field, [x], dtype)), exact, gclu_bound(dtype, double(x), exact))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_calibrations(dtype: str, epsilon: float) -> None:
    shapes = ((5, 16, 7, 11), (5, 16), (5, 16), (5, 16, 7, 11))
    a, mu, log_var, shortcut = (torch.randn(shape, device="cuda").to(getattr(torch, dtype)) for shape in shapes)
    field = trt.PluginField("epsilon", np.array([epsilon], np.float32), trt.PluginFieldType.FLOAT32)
    exact = reference.response_calibration(double(a), double(mu), double(log_var), epsilon)
    bound = operator_bound(dtype, RC_ARITHMETIC, np.abs(double(a)), np.abs(exact))
    found = run_plugin("ResponseCalibration", field, [a, mu, log_var], dtype)
    assert_within(double(found), exact, bound)
    total = np.maximum(exact + double(shortcut), 0)
    argument = np.abs(double(a)) + np.abs(double(shortcut))
    found = run_plugin("CalibratedResidual", field, [a, mu, log_var, shortcut], dtype)
    assert_within(double(found), total, operator_bound(dtype, RC_ARITHMETIC + 2, argument, total))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 16, 32, 32), (1, 3, 600, 501)])  # one kernel, and three with workspace
def test_calibrated_tail_is_the_kernels(dtype: str, shape: tuple[int, ...]) -> None:
    channels, hidden = shape[1], 4
    shapes = (shape, shape, (hidden, channels), (hidden,), (2 * channels, hidden), (2 * channels,))
    a, shortcut, *weights = (torch.randn(size, device="cuda").to(getattr(torch, dtype)) for size in shapes)
    kernels, expected = Kernels(built_with_cuda("librc_cuda.so")), torch.empty_like(a)
    kernels.calibrated_tail(a, shortcut, weights, expected, kernels.workspace(a))
    field = trt.PluginField("epsilon", np.array([1e-5], np.float32), trt.PluginFieldType.FLOAT32)
    assert torch.equal(run_plugin("CalibratedTail", field, [a, shortcut, *weights], dtype), expected)
