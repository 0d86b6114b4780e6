#include "launch.h"

#include <cstdarg>
#include <cstdio>

#include "rc/cuda.h"

namespace rc {
namespace {

constexpr std::size_t kMessageBytes = 512;
thread_local char last_message[kMessageBytes] = "";

}  // namespace

rc_status fail(rc_status status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_message, kMessageBytes, format, arguments);
  va_end(arguments);
  return status;
}

rc_status checked(cudaError_t error, const char* what) {
  if (error == cudaSuccess) {
    return RC_OK;
  }
  static_cast<void>(cudaGetLastError());
  return fail(RC_CUDA_ERROR, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

rc_status check_sizes(rc_type type, std::int64_t count) {
  if (type != RC_FLOAT32 && type != RC_FLOAT16 && type != RC_BFLOAT16) {
    return fail(RC_INVALID_ARGUMENT, "%d is no rc_type", static_cast<int>(type));
  }
  if (count < 0) {
    return fail(RC_INVALID_ARGUMENT, "a size is negative, or their product is beyond any memory");
  }
  return RC_OK;
}

std::int64_t product(std::int64_t a, std::int64_t b, std::int64_t c) {
  constexpr std::int64_t kMost = std::int64_t{1} << 56;
  std::int64_t result = 0;
  if (a < 0 || b < 0 || c < 0) {
    return -1;
  }
  if (__builtin_mul_overflow(a, b, &result) || __builtin_mul_overflow(result, c, &result) || result > kMost) {
    return a == 0 || b == 0 || c == 0 ? 0 : -1;
  }
  return result;
}

rc_status check_address(const char* name, const void* address, rc_type type) {
  if (address == nullptr) {
    return fail(RC_INVALID_ARGUMENT, "%s is null", name);
  }
  if (reinterpret_cast<std::uintptr_t>(address) % static_cast<std::uintptr_t>(bytes_of(type)) != 0) {
    return fail(RC_INVALID_ARGUMENT, "%s, %p, is not at a multiple of its type's %d bytes", name, address,
                static_cast<int>(bytes_of(type)));
  }
  return RC_OK;
}

rc_status check_epsilon(float epsilon) {
  if (epsilon > 0.0F && epsilon <= std::numeric_limits<float>::max()) {
    return RC_OK;
  }
  return fail(RC_INVALID_ARGUMENT, "epsilon is %g; it must be positive and finite", static_cast<double>(epsilon));
}

}  // namespace rc

extern "C" const char* rc_cuda_last_error(void) { return rc::last_message; }
