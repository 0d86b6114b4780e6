// From a validated call to a queued kernel: status, messages and the choice of a type.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>

#include "pack.h"
#include "rc/types.h"

namespace rc {

// Set the thread's last message, printf-like, and return `status`.
__attribute__((format(printf, 2, 3))) rc_status fail(rc_status status, const char* format, ...);

// RC_OK, or RC_CUDA_ERROR with the runtime's words for it. The runtime's own last error is cleared, so that nobody
// takes it for one of theirs.
rc_status checked(cudaError_t error, const char* what);

inline std::int64_t bytes_of(rc_type type) { return type == RC_FLOAT32 ? 4 : 2; }

// RC_OK where `type` is an rc_type and `count`, a product of sizes (see `product`), can be addressed.
rc_status check_sizes(rc_type type, std::int64_t count);

// Product of sizes; -1 if one is negative or the product has no room in memory.
std::int64_t product(std::int64_t a, std::int64_t b, std::int64_t c = 1);

// RC_OK where `address` can hold numbers of the type.
rc_status check_address(const char* name, const void* address, rc_type type);

rc_status check_epsilon(float epsilon);

// What the operands of every calibration have in common; `count` becomes the elements of A.
template <typename Operands>
rc_status check_calibrated(const Operands* operands, std::int64_t* count) {
  if (operands == nullptr) {
    return fail(RC_INVALID_ARGUMENT, "the operands are null");
  }
  *count = product(operands->batch, operands->channels, operands->positions);
  const rc_status status = check_sizes(operands->type, *count);
  return status == RC_OK ? check_epsilon(operands->epsilon) : status;
}

// Call `function` with a null pointer of the C++ type of `type`, which check_sizes() has accepted.
template <typename Function>
rc_status with_type(rc_type type, const Function& function) {
  switch (type) {
    case RC_FLOAT32:
      return function(static_cast<float*>(nullptr));
    case RC_FLOAT16:
      return function(static_cast<__half*>(nullptr));
    case RC_BFLOAT16:
      return function(static_cast<__nv_bfloat16*>(nullptr));
  }
  return fail(RC_INVALID_ARGUMENT, "%d is no rc_type", static_cast<int>(type));
}

struct Geometry {
  std::int64_t blocks;
  int threads;
  std::int64_t shared_bytes = 0;  // dynamic; above 48 KB only for a kernel that was granted more, as tail.cu's is
  int cluster = 1;
};

#if defined(__CUDACC__)
template <typename... Parameters, typename... Arguments>
rc_status launch(const char* name, void (*kernel)(Parameters...), const Geometry& geometry, void* stream,
                 const Arguments&... arguments) {
  if (geometry.blocks > std::numeric_limits<std::int32_t>::max()) {
    return fail(RC_UNSUPPORTED, "%s: %lld blocks are more than a launch can have", name,
                static_cast<long long>(geometry.blocks));
  }
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(geometry.cluster);
  attribute.val.clusterDim.y = 1;
  attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(geometry.blocks));
  config.blockDim = dim3(static_cast<unsigned>(geometry.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(geometry.shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &attribute;
  config.numAttrs = geometry.cluster > 1 ? 1 : 0;
  return checked(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), name);
}
#endif

}  // namespace rc
