// TensorRT as far as the process has loaded it: this library has no link to it.

#pragma once

#include <NvInferRuntime.h>

namespace rc::trt {

// Whether the TensorRT in this process has the major version of the headers that this library was built on: TensorRT 11
// moved the functions of its registry, loggers and logger finders, which therefore must not be called across versions.
// (Plugins and their creators, which TensorRT calls, are the same in both.)
bool is_callable() noexcept;

// The major version of the TensorRT in this process; 0 where there is none.
int loaded_version() noexcept;

// Its plugin registry; null where there is none that can be called.
nvinfer1::IPluginRegistry* loaded_registry() noexcept;

// Its global logger; null where there is none that can be called.
nvinfer1::ILogger* loaded_logger() noexcept;

}  // namespace rc::trt
