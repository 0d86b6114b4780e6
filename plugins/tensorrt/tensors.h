// TensorRT's shapes and types as the operators know them.

#pragma once

#include <NvInferRuntime.h>

#include "rc/contract.h"
#include "rc/types.h"

namespace rc::trt {

// The sizes lie in `dims`.
contract::Sizes sizes_of(const nvinfer1::Dims& dims);

// Throws std::invalid_argument for a type without a kernel.
rc_type element_type(nvinfer1::DataType type);

}  // namespace rc::trt
