// GCLU over a tensor: what one thread does.

#pragma once

#include "functions.h"

namespace rc {

constexpr int kGcluThreads = 256;
constexpr int kGcluVectors = 4;  // of each thread, all loaded before the first is computed

template <typename T, rc_approximation kForm, typename Context>
RC_KERNEL void gclu_thread(const Context& context, const T* x, T* y, const Vectors& vectors) {
  const std::int64_t start = context.block() * (kGcluVectors * context.threads()) + context.thread();
  Pack<T> packs[kGcluVectors];
  RC_UNROLL
  for (int k = 0; k < kGcluVectors; ++k) {
    const std::int64_t v = start + k * context.threads();
    if (v < vectors.total) {
      packs[k] = load(x, vectors, v);
    }
  }
  RC_UNROLL
  for (int k = 0; k < kGcluVectors; ++k) {
    const std::int64_t v = start + k * context.threads();
    if (v < vectors.total) {
      RC_UNROLL
      for (T& value : packs[k].values) {
        value = from_float<T>(activate<T, kForm>(to_float(value)));
      }
      store(y, vectors, v, packs[k]);
    }
  }
}

}  // namespace rc
