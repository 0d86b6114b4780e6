// Shapes of an operator's tensors: what the operators demand of them.

#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

#include "rc/types.h"

namespace rc::trt {

constexpr std::int64_t kUnknown = -1;  // a dimension that is not known yet

// Throw std::invalid_argument unless `dims` has `rank` dimensions.
void need_rank(const char* name, const nvinfer1::Dims& dims, int rank);

// Throw std::invalid_argument unless `dims` has at least 2 dimensions (N, C, *).
void need_planes(const char* name, const nvinfer1::Dims& dims);

// Throw std::invalid_argument unless two dimensions are equal, or one of them is not known.
void need_equal(const char* what, std::int64_t found, std::int64_t due);

// Throw std::invalid_argument unless `dims` is like `due`.
void need_like(const char* name, const nvinfer1::Dims& dims, const nvinfer1::Dims& due);

// Elements of a tensor from dimension `from` on.
std::int64_t elements(const nvinfer1::Dims& dims, int from = 0);

// Throw std::invalid_argument for a type without a kernel.
rc_type element_type(nvinfer1::DataType type);

}  // namespace rc::trt
