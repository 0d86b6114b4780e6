#include <type_traits>
#include <utility>

#include "calibration_launch.h"
#include "rc/cuda.h"

namespace rc {
namespace {

// Everything about the operands that can be wrong; `count` becomes the elements of A.
rc_status check(const rc_calibration* operands, std::int64_t* count) {
  rc_status status = check_calibrated(operands, count);
  if (status != RC_OK || *count == 0) {
    return status;
  }
  for (const auto& [name, address] : {std::pair{"A", operands->a},
                                      {"Mu", operands->mu},
                                      {"LogVar", operands->log_var},
                                      {"Y", static_cast<const void*>(operands->y)}}) {
    if (status == RC_OK) {
      status = check_address(name, address, operands->type);
    }
  }
  return status;
}

template <bool kResidual>
rc_status launch_checked(const char* name, const rc_calibration& operands, const void* shortcut, void* stream) {
  DeviceLimits device = {};
  const rc_status status = read_device(&device);
  if (status != RC_OK) {
    return status;
  }
  return with_type(operands.type, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const FromLogVar<T> source = {static_cast<const T*>(operands.mu), static_cast<const T*>(operands.log_var),
                                  operands.epsilon};
    return launch_calibration<T, kResidual>(name, static_cast<const T*>(operands.a), static_cast<const T*>(shortcut),
                                            static_cast<T*>(operands.y), operands.batch * operands.channels,
                                            operands.positions, source, device, stream);
  });
}

}  // namespace
}  // namespace rc

extern "C" rc_status rc_cuda_response_calibration(const rc_calibration* operands, void* stream) {
  std::int64_t count = 0;
  const rc_status status = rc::check(operands, &count);
  return status != RC_OK || count == 0 ? status
                                       : rc::launch_checked<false>("ResponseCalibration", *operands, nullptr, stream);
}

extern "C" rc_status rc_cuda_calibrated_residual(const rc_calibration* operands, const void* shortcut, void* stream) {
  std::int64_t count = 0;
  rc_status status = rc::check(operands, &count);
  if (status != RC_OK || count == 0) {
    return status;
  }
  status = rc::check_address("Shortcut", shortcut, operands->type);
  return status != RC_OK ? status : rc::launch_checked<true>("CalibratedResidual", *operands, shortcut, stream);
}
