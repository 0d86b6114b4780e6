#include "tensors.h"

#include <stdexcept>
#include <string>

namespace rc::trt {

contract::Sizes sizes_of(const nvinfer1::Dims& dims) {
  return {dims.d, dims.nbDims < 0 ? 0 : static_cast<std::size_t>(dims.nbDims)};
}

rc_type element_type(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return RC_FLOAT32;
    case nvinfer1::DataType::kHALF:
      return RC_FLOAT16;
    case nvinfer1::DataType::kBF16:
      return RC_BFLOAT16;
    default:
      throw std::invalid_argument("there is no kernel for data type " + std::to_string(static_cast<int>(type)));
  }
}

}  // namespace rc::trt
