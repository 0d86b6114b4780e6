#include <type_traits>

#include "context.cuh"
#include "gclu.h"
#include "launch.h"
#include "rc/cuda.h"

namespace rc {
namespace {

template <typename T, rc_approximation kForm>
__global__ void __launch_bounds__(kGcluThreads, kResidentBlocks<T>) gclu_kernel(const T* x, T* y, Vectors vectors) {
  gclu_thread<T, kForm>(DeviceContext{}, x, y, vectors);
}

template <typename T>
rc_status launch_gclu(const T* x, T* y, std::int64_t count, rc_approximation approximate, void* stream) {
  const Vectors vectors = vectors_of(count, sizeof(T), x, static_cast<const void*>(y));
  constexpr std::int64_t kOfBlock = kGcluThreads * kGcluVectors;
  const Geometry geometry = {(vectors.total + kOfBlock - 1) / kOfBlock, kGcluThreads};
  const auto kernel = approximate == RC_SIGMOID ? gclu_kernel<T, RC_SIGMOID>
                      : approximate == RC_TANH  ? gclu_kernel<T, RC_TANH>
                                                : gclu_kernel<T, RC_NONE>;
  return launch("GCLU", kernel, geometry, stream, x, y, vectors);
}

}  // namespace
}  // namespace rc

extern "C" rc_status rc_cuda_gclu(const void* x, void* y, int64_t count, rc_type type, rc_approximation approximate,
                                  void* stream) {
  rc_status status = rc::check_sizes(type, rc::product(count, 1));
  if (status == RC_OK && approximate != RC_NONE && approximate != RC_SIGMOID && approximate != RC_TANH) {
    status = rc::fail(RC_INVALID_ARGUMENT, "%d is no rc_approximation", static_cast<int>(approximate));
  }
  if (status != RC_OK || count == 0) {
    return status;
  }
  if ((status = rc::check_address("X", x, type)) != RC_OK || (status = rc::check_address("Y", y, type)) != RC_OK) {
    return status;
  }
  return rc::with_type(type, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    return rc::launch_gclu(static_cast<const T*>(x), static_cast<T*>(y), count, approximate, stream);
  });
}
