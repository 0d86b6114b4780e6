// The kernels: plain loops over rc/math.h, which the compiler vectorises. Compiled once per instruction set, with
// RC_ISA and RC_TABLE set (plugins/cpu/CMakeLists.txt). All that is shared with other such files is always inlined:
// the linker must not take, for an old processor, a function compiled for a new one. The simd pragmas say that an
// output is at most exactly an input, so that no code has to look at that.

#include "kernels.h"

namespace rc {
namespace {

template <class T, float (*Function)(float)>
void map(const T* x, T* y, std::size_t count) {
#pragma omp simd
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = store<T>(Function(load(x[i])));
  }
}

RC_HD float none(float x) { return gclu(x); }
RC_HD float sigmoid(float x) { return gclu_sigmoid(x); }
RC_HD float tanh(float x) { return gclu_tanh(x); }

template <class T>
void calibrate_row(const T* a, const T* shortcut, float mu, float slope, T* y, std::size_t count) {
  if (shortcut == nullptr) {
#pragma omp simd
    for (std::size_t i = 0; i < count; ++i) {
      y[i] = store<T>(calibrated(load(a[i]), mu, slope));
    }
  } else {
#pragma omp simd
    for (std::size_t i = 0; i < count; ++i) {
      y[i] = store<T>(detail::relu(calibrated(load(a[i]), mu, slope) + load(shortcut[i])));
    }
  }
}

template <class T, class Statistic>
void calibrate(const Calibration<T, Statistic>& t, Range range) {
  std::size_t row = range.begin / range.positions;
  for (std::size_t begin = range.begin; begin < range.end; ++row) {
    const std::size_t next = (row + 1) * range.positions;
    const std::size_t end = next < range.end ? next : range.end;
    const float slope = calibration_slope(standard_deviation(load(t.log_var[row])), t.epsilon);
    const T* shortcut = t.shortcut == nullptr ? nullptr : t.shortcut + begin;
    calibrate_row(t.a + begin, shortcut, load(t.mu[row]), slope, t.y + begin, end - begin);
    begin = end;
  }
}

// Reassociated by the pragma's leave: one partial sum per vector lane, four vectors at a time.
template <class T>
float sum(const T* x, std::size_t count) {
  const std::size_t quarter = count / 4;
  float first = 0.0F;
  float second = 0.0F;
  float third = 0.0F;
  float fourth = 0.0F;
#pragma omp simd reduction(+ : first, second, third, fourth)
  for (std::size_t i = 0; i < quarter; ++i) {
    first += load(x[i]);
    second += load(x[quarter + i]);
    third += load(x[2 * quarter + i]);
    fourth += load(x[3 * quarter + i]);
  }
  for (std::size_t i = 4 * quarter; i < count; ++i) {
    first += load(x[i]);
  }
  return (first + second) + (third + fourth);
}

template <class T>
void pool(const T* a, float* means, std::size_t rows, std::size_t positions) {
  const float size = static_cast<float>(positions);
  for (std::size_t row = 0; row < rows; ++row) {
    means[row] = sum(a + row * positions, positions) / size;
  }
}

// Rows side by side: a vector holds one position of all of a block's rows.
template <class T, std::size_t kBlock>
void calibrate_blocks(const Calibration<T, float>& t, Range range) {
  const std::size_t plane = range.positions * kBlock;
  for (std::size_t begin = range.begin; begin < range.end;) {
    const std::size_t block = begin / plane;
    const std::size_t next = (block + 1) * plane;
    const std::size_t end = next < range.end ? next : range.end;
    float mu[kBlock];
    float slope[kBlock];
#pragma omp simd
    for (std::size_t row = 0; row < kBlock; ++row) {
      mu[row] = t.mu[block * kBlock + row];
      slope[row] = calibration_slope(standard_deviation(t.log_var[block * kBlock + row]), t.epsilon);
    }
    for (; begin < end; begin += kBlock) {
#pragma omp simd
      for (std::size_t row = 0; row < kBlock; ++row) {
        const float calibration = calibrated(load(t.a[begin + row]), mu[row], slope[row]);
        t.y[begin + row] = store<T>(detail::relu(calibration + load(t.shortcut[begin + row])));
      }
    }
  }
}

// Four partial sums per row, for additions to overlap.
template <class T, std::size_t kBlock>
void pool_blocks(const T* a, float* means, std::size_t rows, std::size_t positions) {
  constexpr std::size_t kSums = 4 * kBlock;
  const float size = static_cast<float>(positions);
  for (std::size_t first = 0; first < rows; first += kBlock) {
    const T* x = a + first * positions;
    const std::size_t count = positions * kBlock;
    const std::size_t even = count / kSums * kSums;
    float sums[kSums] = {};
    for (std::size_t i = 0; i < even; i += kSums) {
#pragma omp simd
      for (std::size_t j = 0; j < kSums; ++j) {
        sums[j] += load(x[i + j]);
      }
    }
    for (std::size_t i = even; i < count; i += kBlock) {
      for (std::size_t row = 0; row < kBlock; ++row) {
        sums[row] += load(x[i + row]);
      }
    }
    for (std::size_t row = 0; row < kBlock; ++row) {
      const float low = sums[row] + sums[kBlock + row];
      const float high = sums[2 * kBlock + row] + sums[3 * kBlock + row];
      means[first + row] = (low + high) / size;
    }
  }
}

// Long rows: a vector holds a part of one row, and is summed up at its end.
template <class T>
void dense_long(const T* weights, const T* bias, const float* input, float* output, std::size_t m, std::size_t n) {
  for (std::size_t row = 0; row < m; ++row) {
    const T* w = weights + row * n;
    float product = 0.0F;
#pragma omp simd reduction(+ : product)
    for (std::size_t i = 0; i < n; ++i) {
      product += load(w[i]) * input[i];
    }
    output[row] = product + load(bias[row]);
  }
}

// Short rows: a vector holds an element of each of several rows, whose distance the compiler knows.
template <class T, std::size_t kLength>
void dense_short(const T* weights, const T* bias, const float* input, float* output, std::size_t m) {
#pragma omp simd
  for (std::size_t row = 0; row < m; ++row) {
    float product = 0.0F;
#pragma GCC unroll 16  // Clang vectorises no loop with another one in it
    for (std::size_t i = 0; i < kLength; ++i) {
      product += load(weights[row * kLength + i]) * input[i];
    }
    output[row] = product + load(bias[row]);
  }
}

// The hidden layers of the paper's small networks have 4, 8 and 16 values: four times as fast so.
template <class T>
void dense(const T* weights, const T* bias, const float* input, float* output, std::size_t m, std::size_t n) {
  switch (n) {
    case 4:
      return dense_short<T, 4>(weights, bias, input, output, m);
    case 8:
      return dense_short<T, 8>(weights, bias, input, output, m);
    case 16:
      return dense_short<T, 16>(weights, bias, input, output, m);
    default:
      return dense_long(weights, bias, input, output, m, n);
  }
}

template <class T>
constexpr TypedKernels<T> typed() {
  return {{map<T, none>, map<T, sigmoid>, map<T, tanh>},
          calibrate<T, T>,
          {pool<T>, calibrate<T, float>},
          {pool_blocks<T, 8>, calibrate_blocks<T, 8>},
          {pool_blocks<T, 16>, calibrate_blocks<T, 16>},
          dense<T>};
}

}  // namespace

extern const Kernels RC_TABLE = {RC_ISA, typed<float>(), typed<Half>(), typed<BFloat16>()};

}  // namespace rc
