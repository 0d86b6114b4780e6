// The kernels as tables of functions, one table per instruction set. They run in one thread and check nothing.

#pragma once

#include <cstddef>

#include "storage.h"

namespace rc {

// Elements [begin, end) of a tensor whose rows, one per sample and channel, are `positions` long.
struct Range {
  std::size_t begin;
  std::size_t end;
  std::size_t positions;
};

// Of tensors of type T; Statistic is the type of mu and log_var, one per row.
template <class T, class Statistic>
struct Calibration {
  const T* a;
  const T* shortcut;  // null: Y = A + RC(A); else Y = ReLU(A + RC(A) + shortcut)
  const Statistic* mu;
  const Statistic* log_var;
  T* y;
  float epsilon;
};

// For one order of elements: whole rows, or rows that lie side by side in blocks of 8 or 16, to which ranges and
// numbers of rows are then whole.
template <class T>
struct TailKernels {
  // Means of rows.
  void (*pool)(const T* a, float* means, std::size_t rows, std::size_t positions);
  void (*calibrate)(const Calibration<T, float>& tensors, Range range);
};

template <class T>
struct TypedKernels {
  void (*gclu[3])(const T* x, T* y, std::size_t count);  // by rc_approximation
  void (*calibrate)(const Calibration<T, T>& tensors, Range range);
  TailKernels<T> rows;
  TailKernels<T> blocks_of_8;
  TailKernels<T> blocks_of_16;
  // output (m) = weights (m, n) input (n) + bias (m)
  void (*dense)(const T* weights, const T* bias, const float* input, float* output, std::size_t m, std::size_t n);
};

struct Kernels {
  const char* isa;
  TypedKernels<float> float32;
  TypedKernels<Half> float16;
  TypedKernels<BFloat16> bfloat16;
};

// Defined by kernels.cpp, once per instruction set it is compiled for.
extern const Kernels kKernelsPlain;
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;

// The table that this processor is given.
const Kernels& kernels();

}  // namespace rc
