#include "runtime.h"

#include <algorithm>
#include <atomic>
#include <string>

namespace rc {
namespace {

// Every session's creation sets it, on whatever thread.
std::atomic<const OrtApi*> functions = nullptr;

}  // namespace

const OrtApi& ort() { return *functions; }

void set_ort(const OrtApi& api) { functions = &api; }

void check(OrtStatus* status) {
  if (status == nullptr) {
    return;
  }
  const std::string message = ort().GetErrorMessage(status);
  ort().ReleaseStatus(status);
  throw std::runtime_error(message);
}

void read_shape(const OrtTensorTypeAndShapeInfo& info, Shape* shape) {
  std::size_t rank = 0;
  check(ort().GetDimensionsCount(&info, &rank));
  shape->resize(rank);
  check(ort().GetDimensions(&info, shape->data(), rank));
  std::replace_if(shape->begin(), shape->end(), [](std::int64_t size) { return size < 0; }, contract::kUnknown);
}

}  // namespace rc
