// ONNX Runtime's C API: its table of functions, and failures that cross it as statuses.

#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <vector>

#include "rc/contract.h"

namespace rc {

// The functions of the ONNX Runtime that loaded this library; set by RegisterCustomOps.
const OrtApi& ort();
void set_ort(const OrtApi& api);

// Throws what a failed call says, and frees its status.
void check(OrtStatus* status);

// Runs body and turns what it throws into a status: no exception may leave this library.
template <class Body>
OrtStatus* guarded(const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::invalid_argument& error) {
    return ort().CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return ort().CreateStatus(ORT_FAIL, error.what());
  }
}

// Sizes of a tensor's dimensions; during shape inference contract::kUnknown where a size is not known.
using Shape = std::vector<std::int64_t>;

inline contract::Sizes sizes_of(const Shape& shape) { return {shape.data(), shape.size()}; }

inline std::int64_t elements(const Shape& shape, std::size_t first = 0) {
  return contract::elements(sizes_of(shape), first);
}

void read_shape(const OrtTensorTypeAndShapeInfo& info, Shape* shape);

}  // namespace rc
