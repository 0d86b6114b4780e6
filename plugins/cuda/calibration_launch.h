// Launch of the kernel that applies coefficients, which three operators end with.

#pragma once

#include "calibration.h"
#include "context.cuh"
#include "device.h"

namespace rc {

template <typename T, bool kResidual, typename Source>
__global__ void __launch_bounds__(kCalibrationThreads, kResidual ? kResidentBlocks<T> : 0)
    calibration_kernel(CalibrationTensors<T> tensors, Source source) {
  __shared__ Coefficient table[kTablePlanes];
  calibrate_block<T, kResidual>(DeviceContext{}, tensors, source, table);
}

template <typename T, bool kResidual, typename Source>
rc_status launch_calibration(const char* name, const T* a, const T* shortcut, T* y, std::int64_t planes,
                             std::int64_t positions, const Source& source, const DeviceLimits& device, void* stream) {
  const void* const other = kResidual ? shortcut : a;
  const Vectors vectors = vectors_of(planes * positions, sizeof(T), a, other, static_cast<const void*>(y));
  const std::int64_t block_vectors = calibration_block_vectors(vectors, positions, device.processors);
  const Geometry geometry = {(vectors.total + block_vectors - 1) / block_vectors, kCalibrationThreads};
  const CalibrationTensors<T> tensors = {a, shortcut, y, vectors, block_vectors, positions};
  return launch(name, calibration_kernel<T, kResidual, Source>, geometry, stream, tensors, source);
}

}  // namespace rc
