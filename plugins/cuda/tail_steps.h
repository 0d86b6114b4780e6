// The whole tail of a residual block in three kernels, for samples that no shared memory holds: means, coefficients,
// and then the block of calibration.h.

#pragma once

#include "tail.h"

namespace rc {

constexpr int kMeanThreads = 256;
constexpr std::int64_t kLongPlane = 4096;  // elements from which on a whole block sums one plane

// Planes that one block sums.
RC_HD int planes_of_block(std::int64_t positions, int threads) { return positions >= kLongPlane ? 1 : threads / 32; }

// Means of the planes of A: one plane to a warp, or to the block where planes are long.
template <typename T, typename Context>
RC_KERNEL void mean_block(const Context& context, const T* a, const Vectors& vectors, std::int64_t positions,
                          std::int64_t planes, float* partials, float* means) {
  const int of_block = planes_of_block(positions, context.threads());
  const int warp = context.thread() / 32;
  const int lane = context.thread() % 32;
  const int parts = context.threads() / 32 / of_block;
  const std::int64_t first = context.block() * of_block;
  const std::int64_t plane = first + warp / parts;
  const auto read = [&](std::int64_t v) { return load(a, vectors, v); };
  const std::int64_t begin = plane * positions;
  const std::int64_t end = plane < planes ? begin + positions : begin;
  const float total = sum_of_range<T>(read, vectors, begin, end, warp % parts * 32 + lane, parts * 32);
  const float whole = context.sum(total, 32);
  if (lane == 0) {
    partials[warp] = whole;
  }
  context.barrier();
  if (context.thread() < of_block && first + context.thread() < planes) {
    float sum = 0.0F;
    for (int part = 0; part < parts; ++part) {
      sum += partials[context.thread() * parts + part];
    }
    means[first + context.thread()] = sum / static_cast<float>(positions);
  }
}

// Coefficients of one sample's channels from their means. `hidden` holds the hidden layer in shared memory.
template <typename T, typename Context>
RC_KERNEL void coefficients_block(const Context& context, const TailTensors<T>& tensors, const float* means,
                                  float* hidden, Coefficient* coefficients) {
  const std::int64_t channels = tensors.channels;
  const float* const own = means + context.block() * channels;
  Coefficient* const results = coefficients + context.block() * channels;
  const T* const w2_log_var = tensors.w2 + channels * tensors.hidden;
  multiply(context, own, channels, tensors.hidden, tensors.w1,
           [&](std::int64_t row, float sum) { hidden[row] = sum + to_float(tensors.b1[row]); });
  context.barrier();
  multiply(context, hidden, tensors.hidden, channels, tensors.w2,
           [&](std::int64_t row, float sum) { results[row].mu = sum + to_float(tensors.b2[row]); });
  multiply(context, hidden, tensors.hidden, channels, w2_log_var, [&](std::int64_t row, float sum) {
    const float log_var = sum + to_float(tensors.b2[channels + row]);
    results[row].slope = coefficient(0.0F, log_var, tensors.epsilon).slope;
  });
}

}  // namespace rc
