// ResponseCalibration and CalibratedResidual: what one block does.
//
// A block takes a run of vectors. The coefficients of the planes that it touches are computed once, into a table in
// shared memory, while its first vectors are on their way.

#pragma once

#include "planes.h"

namespace rc {

constexpr int kCalibrationThreads = 256;
constexpr int kCalibrationVectors = 2;  // of each thread at a time
constexpr int kTablePlanes = 1024;

template <typename T>
struct CalibrationTensors {
  const T* a;
  const T* shortcut;  // null for ResponseCalibration
  T* y;
  Vectors vectors;
  std::int64_t block_vectors;  // vectors of one block
  std::int64_t positions;
};

// Coefficients computed from Mu and LogVar.
template <typename T>
struct FromLogVar {
  const T* mu;
  const T* log_var;
  float epsilon;

  RC_KERNEL Coefficient operator()(std::int64_t plane) const {
    return coefficient(to_float(mu[plane]), to_float(log_var[plane]), epsilon);
  }
};

// Coefficients that an earlier kernel has computed.
struct Computed {
  const Coefficient* coefficients;

  RC_KERNEL Coefficient operator()(std::int64_t plane) const { return coefficients[plane]; }
};

// Vectors of one block: so few that its planes fit in the table, and else so many that the table is worth its while,
// but not so many that processors stay without a block.
inline std::int64_t calibration_block_vectors(const Vectors& vectors, std::int64_t positions, int processors) {
  constexpr std::int64_t kAtOnce = kCalibrationThreads * kCalibrationVectors;
  constexpr std::int64_t kBlocksOfProcessor = 8;
  constexpr std::int64_t kLongest = 4;
  const std::int64_t share = vectors.total / (kAtOnce * kBlocksOfProcessor * processors);
  const std::int64_t wanted = kAtOnce * (share < 1 ? 1 : share > kLongest ? kLongest : share);
  // n vectors touch at most n width / positions + 2 planes.
  const std::int64_t fitting =
      positions >= wanted * vectors.width ? wanted : (kTablePlanes - 2) * positions / vectors.width;
  return fitting < wanted ? fitting : wanted;
}

template <typename T, bool kResidual, typename Source, typename Context>
RC_KERNEL void calibrate_block(const Context& context, const CalibrationTensors<T>& tensors, const Source& source,
                               Coefficient* table) {
  const Vectors& vectors = tensors.vectors;
  const std::int64_t begin = context.block() * tensors.block_vectors;
  const std::int64_t wanted_end = begin + tensors.block_vectors;
  const std::int64_t end = wanted_end < vectors.total ? wanted_end : vectors.total;
  const std::int64_t first_element = begin == 0 ? 0 : vectors.first(begin);
  const std::int64_t behind = vectors.first(end) < vectors.count ? vectors.first(end) : vectors.count;
  const std::int64_t first_plane = quotient(first_element, tensors.positions);
  const std::int64_t last_plane = quotient(behind - 1, tensors.positions);
  const std::int64_t origin = first_plane * tensors.positions;
  const PlaneTable planes(table, static_cast<std::int32_t>(last_plane - first_plane), tensors.positions);

  for (std::int64_t start = begin; start < end; start += kCalibrationVectors * context.threads()) {
    Pack<T> a[kCalibrationVectors];
    Pack<T> shortcut[kCalibrationVectors];
    RC_UNROLL
    for (int k = 0; k < kCalibrationVectors; ++k) {
      const std::int64_t v = start + k * context.threads() + context.thread();
      if (v < end) {
        a[k] = load(tensors.a, vectors, v);
        shortcut[k] = kResidual ? load(tensors.shortcut, vectors, v) : a[k];
      }
    }
    if (start == begin) {
      for (int i = context.thread(); i <= planes.last(); i += context.threads()) {
        table[i] = source(first_plane + i);
      }
      context.barrier();
    }
    RC_UNROLL
    for (int k = 0; k < kCalibrationVectors; ++k) {
      const std::int64_t v = start + k * context.threads() + context.thread();
      if (v < end) {
        apply<T, kResidual>(a[k], shortcut[k], vectors.first(v) - origin, planes);
        store(tensors.y, vectors, v, a[k]);
      }
    }
  }
}

}  // namespace rc
