// The operators' CUDA kernels, for the table in operators.cpp; null in a library that is built without them.

#pragma once

#include "operators.h"

namespace rc {

#ifdef RC_ORT_CUDA
rc_status gclu_on_cuda(const Call& call);
rc_status calibration_on_cuda(const Call& call);
rc_status residual_on_cuda(const Call& call);
rc_status tail_on_cuda(const Call& call);
#else
constexpr Compute gclu_on_cuda = nullptr;
constexpr Compute calibration_on_cuda = nullptr;
constexpr Compute residual_on_cuda = nullptr;
constexpr Compute tail_on_cuda = nullptr;
#endif

}  // namespace rc
