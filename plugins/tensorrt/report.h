// Where the plugins' error messages go.

#pragma once

#include <NvInferRuntime.h>

namespace rc::trt {

// The logger's finder that TensorRT hands to plugins it carries inside an engine; null takes it back.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Log "WHO: WHAT" as an error: to TensorRT's logger where there is one, else to standard error.
void report(const char* who, const char* what) noexcept;

}  // namespace rc::trt
