"""Every attribute of TensorRT 10, TensorRT 11 and TensorRT-RTX that the engine stage touches, and which library has it.

Tests hold this table against the installed TensorRT-RTX, the type stubs of TensorRT 10.13 and the documented names of
TensorRT 11, in both directions: what is listed is there, what is not listed for a library is not. Another test reads
the sources of this folder and finds no attribute of a library that is not listed.
"""

from __future__ import annotations

from dataclasses import dataclass

TENSORRT_10, TENSORRT_11, TENSORRT_RTX = "tensorrt 10", "tensorrt 11", "tensorrt-rtx"
EVERY = (TENSORRT_10, TENSORRT_11, TENSORRT_RTX)


@dataclass(frozen=True)
class Attribute:
    """One attribute.

    Attributes:
        libraries: that have it.
        note: what stands for it where it is missing, and where it does something else than its name says.
    """

    libraries: tuple[str, ...] = EVERY
    note: str = ""


_OWN_GPU = "TensorRT builds for the GPU of the machine"
_OWN_CODE = "the engines of TensorRT hold compiled code: nothing is left to compile, and to keep, when they run"
_NO_CACHE = "does nothing in TensorRT-RTX (deprecated since 1.2): `library.FEATURES` refuses --timing-cache"
_NO_LEAN = "set in TensorRT-RTX, a build fails for want of libnvinfer_lean: refused by `library.FEATURES`"
_NEEDS_GPU = "set in TensorRT-RTX, a build fails without a GPU: refused by `library.FEATURES`"
_UNSUPPORTED = "TensorRT-RTX warns that it is unsupported, and ignores it: refused by `library.FEATURES`"

ATTRIBUTES = {
    "Builder": Attribute(),
    "Builder.build_serialized_network": Attribute(),
    "Builder.create_builder_config": Attribute(),
    "Builder.create_network": Attribute(),
    "Builder.create_optimization_profile": Attribute(),
    "BuilderFlag": Attribute(),
    "BuilderFlag.REFIT": Attribute(note=_NEEDS_GPU),
    "BuilderFlag.REFIT_IDENTICAL": Attribute(note=_NEEDS_GPU),
    "BuilderFlag.STRIP_PLAN": Attribute(note=_NEEDS_GPU),
    "BuilderFlag.TF32": Attribute(),
    "BuilderFlag.VERSION_COMPATIBLE": Attribute(note=_NO_LEAN),
    "ComputeCapability": Attribute((TENSORRT_RTX,), _OWN_GPU),
    "ComputeCapability.__members__": Attribute((TENSORRT_RTX,), _OWN_GPU),
    "DataType": Attribute(),
    "DataType.FLOAT": Attribute(),
    "DataType.name": Attribute(),
    "Dims": Attribute(),
    "EngineInspector.get_engine_information": Attribute(),
    "ErrorCode.name": Attribute(),
    "HardwareCompatibilityLevel": Attribute(),
    "HardwareCompatibilityLevel.AMPERE_PLUS": Attribute(note=_UNSUPPORTED),
    "IBuilderConfig.add_optimization_profile": Attribute(),
    "IBuilderConfig.clear_flag": Attribute(),
    "IBuilderConfig.create_timing_cache": Attribute(note=_NO_CACHE),
    "IBuilderConfig.get_timing_cache": Attribute(note=_NO_CACHE),
    "IBuilderConfig.hardware_compatibility_level": Attribute(note=_UNSUPPORTED),
    "IBuilderConfig.num_compute_capabilities": Attribute((TENSORRT_RTX,), _OWN_GPU),
    "IBuilderConfig.profiling_verbosity": Attribute(),
    "IBuilderConfig.progress_monitor": Attribute(),
    "IBuilderConfig.set_compute_capability": Attribute((TENSORRT_RTX,), _OWN_GPU),
    "IBuilderConfig.set_flag": Attribute(),
    "IBuilderConfig.set_timing_cache": Attribute(note=_NO_CACHE),
    "ICudaEngine.create_engine_inspector": Attribute(),
    "ICudaEngine.create_execution_context": Attribute(),
    "ICudaEngine.create_runtime_config": Attribute(),
    "ICudaEngine.get_tensor_dtype": Attribute(),
    "ICudaEngine.get_tensor_mode": Attribute(),
    "ICudaEngine.get_tensor_name": Attribute(),
    "ICudaEngine.get_tensor_profile_shape": Attribute(),
    "ICudaEngine.get_tensor_shape": Attribute(),
    "ICudaEngine.num_io_tensors": Attribute(),
    "ICudaEngine.num_optimization_profiles": Attribute(),
    "IExecutionContext.execute_async_v3": Attribute(),
    "IExecutionContext.set_input_shape": Attribute(),
    "IExecutionContext.set_optimization_profile_async": Attribute(),
    "IExecutionContext.set_tensor_address": Attribute(),
    "ILayer.get_input": Attribute(),
    "ILayer.get_output": Attribute(),
    "ILayer.name": Attribute(),
    "ILayer.num_inputs": Attribute(),
    "ILayer.num_outputs": Attribute(),
    "ILayer.type": Attribute(),
    "ILogger": Attribute(),
    "ILogger.Severity": Attribute(),
    "ILogger.Severity.ERROR": Attribute(),
    "ILogger.Severity.name": Attribute(),
    "ILogger.log": Attribute(),
    "INetworkDefinition.get_input": Attribute(),
    "INetworkDefinition.get_layer": Attribute(),
    "INetworkDefinition.num_inputs": Attribute(),
    "INetworkDefinition.num_layers": Attribute(),
    "IOptimizationProfile.set_shape": Attribute(),
    "IPluginCreatorV3One.plugin_namespace": Attribute(),
    "IPluginRegistry.all_creators": Attribute(),
    "IPluginRegistry.load_library": Attribute(),
    "IProgressMonitor": Attribute(),
    "IProgressMonitor.phase_finish": Attribute(),
    "IProgressMonitor.phase_start": Attribute(),
    "IProgressMonitor.step_complete": Attribute(),
    "IRuntimeCache": Attribute((TENSORRT_RTX,), _OWN_CODE),
    "IRuntimeCache.deserialize": Attribute((TENSORRT_RTX,), _OWN_CODE),
    "IRuntimeCache.serialize": Attribute((TENSORRT_RTX,), _OWN_CODE),
    "IRuntimeConfig.create_runtime_cache": Attribute((TENSORRT_RTX,), _OWN_CODE),
    "IRuntimeConfig.set_runtime_cache": Attribute((TENSORRT_RTX,), _OWN_CODE),
    "ITensor.dtype": Attribute(),
    "ITensor.name": Attribute(),
    "ITensor.shape": Attribute(),
    "ITimingCache.serialize": Attribute(note=_NO_CACHE),
    "LayerInformationFormat": Attribute(),
    "LayerInformationFormat.JSON": Attribute(),
    "LayerType.name": Attribute(),
    "NetworkDefinitionCreationFlag": Attribute(),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": Attribute(note="TensorRT 11 and RTX ignore it"),
    "OnnxParser": Attribute(),
    "OnnxParser.get_error": Attribute(),
    "OnnxParser.num_errors": Attribute(),
    "OnnxParser.parse": Attribute(),
    "OnnxParserRefitter": Attribute(),
    "OnnxParserRefitter.get_error": Attribute(),
    "OnnxParserRefitter.num_errors": Attribute(),
    "OnnxParserRefitter.refit_from_bytes": Attribute(),
    "ParserError.code": Attribute(),
    "ParserError.desc": Attribute(),
    "ParserError.node_name": Attribute(),
    "ParserError.node_operator": Attribute(),
    "ProfilingVerbosity": Attribute(),
    "ProfilingVerbosity.DETAILED": Attribute(),
    "Refitter": Attribute(),
    "Refitter.get_missing_weights": Attribute(),
    "Refitter.refit_cuda_engine": Attribute(),
    "Runtime": Attribute(),
    "Runtime.deserialize_cuda_engine": Attribute(),
    "TensorIOMode": Attribute(),
    "TensorIOMode.INPUT": Attribute(),
    "__version__": Attribute(),
    "get_plugin_registry": Attribute(),
}
