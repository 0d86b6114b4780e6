// TensorRT as far as the process has loaded it: this library has no link to it.

#pragma once

#include <NvInferRuntime.h>

namespace rc::trt {

// The plugin registry of the TensorRT in this process; null where there is none.
nvinfer1::IPluginRegistry* loaded_registry() noexcept;

// TensorRT's global logger; null where there is none.
nvinfer1::ILogger* loaded_logger() noexcept;

}  // namespace rc::trt
