#include "shapes.h"

#include <stdexcept>
#include <string>

namespace rc::trt {

void need_rank(const char* name, const nvinfer1::Dims& dims, int rank) {
  if (dims.nbDims != rank) {
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(dims.nbDims) +
                                " dimensions; it must have " + std::to_string(rank));
  }
}

void need_planes(const char* name, const nvinfer1::Dims& dims) {
  if (dims.nbDims < 2) {
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(dims.nbDims) +
                                " dimensions; it must have samples, channels and any number of positions");
  }
}

void need_equal(const char* what, std::int64_t found, std::int64_t due) {
  if (found != due && found != kUnknown && due != kUnknown) {
    throw std::invalid_argument(std::string(what) + " is " + std::to_string(found) + "; it must be " +
                                std::to_string(due));
  }
}

void need_like(const char* name, const nvinfer1::Dims& dims, const nvinfer1::Dims& due) {
  need_rank(name, dims, due.nbDims);
  for (int i = 0; i < due.nbDims; ++i) {
    need_equal((std::string(name) + "'s dimension " + std::to_string(i)).c_str(), dims.d[i], due.d[i]);
  }
}

std::int64_t elements(const nvinfer1::Dims& dims, int from) {
  std::int64_t count = 1;
  for (int i = from; i < dims.nbDims; ++i) {
    count *= dims.d[i];
  }
  return count;
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
