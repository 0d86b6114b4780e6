// Tensors for the tests: at a chosen distance from 16 bytes, between guards, with the operators in float64.

#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "functions.h"
#include "gtest/gtest.h"

namespace rc::test {

// Half a unit in the last place of a type, relative, and what underflow can lose.
template <typename T>
struct Precision;
template <>
struct Precision<float> {
  static constexpr double kRounding = 0.0;  // its arithmetic's is counted apart
  static constexpr double kSmallest = 0x1p-126;
};
template <>
struct Precision<__half> {
  static constexpr double kRounding = 0x1p-11;
  static constexpr double kSmallest = 0x1p-24;
};
template <>
struct Precision<__nv_bfloat16> {
  static constexpr double kRounding = 0x1p-8;
  static constexpr double kSmallest = 0x1p-110;  // narrow_math.h
};

// `count` numbers that lie `shift` elements behind a multiple of 16 bytes, poisoned, with guards before and behind.
template <typename T>
class Tensor {
 public:
  explicit Tensor(std::int64_t count, int shift = 0)
      : count_(count), memory_(static_cast<std::size_t>(bytes() / 16 + 4)) {
    std::memset(memory_.data(), 0xff, memory_.size() * sizeof(Line));
    data_ = reinterpret_cast<T*>(memory_.data() + 1) + shift;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::int64_t count() const { return count_; }
  double operator[](std::int64_t i) const { return static_cast<double>(to_float(data_[i])); }
  void set(std::int64_t i, double value) { data_[i] = from_float<T>(static_cast<float>(value)); }

  void fill_normal(unsigned seed, double scale, double mean = 0.0) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal(mean, scale);
    for (std::int64_t i = 0; i < count_; ++i) {
      set(i, normal(generator));
    }
  }

  bool guards_hold() const {
    const auto* const begin = reinterpret_cast<const unsigned char*>(memory_.data());
    const auto* const data = reinterpret_cast<const unsigned char*>(data_);
    const auto* const behind = data + bytes();
    const auto* const end = begin + memory_.size() * sizeof(Line);
    for (const unsigned char* byte = begin; byte != end; byte = byte + 1 == data ? behind : byte + 1) {
      if (*byte != 0xff) {
        return false;
      }
    }
    return true;
  }

 private:
  struct alignas(16) Line {
    unsigned char bytes[16];
  };

  std::int64_t bytes() const { return count_ * static_cast<std::int64_t>(sizeof(T)); }

  std::int64_t count_;
  std::vector<Line> memory_;
  T* data_;
};

inline double lower_tail(double x, rc_approximation form = RC_NONE) {
  const double t = std::abs(x);
  switch (form) {
    case RC_SIGMOID:
      return 1.0 / (1.0 + std::exp(1.702 * t));
    case RC_TANH:
      return 1.0 / (1.0 + std::exp(2.0 * std::sqrt(2.0 / M_PI) * (t + 0.044715 * t * t * t)));
    default:
      return 0.5 * std::erfc(t / std::sqrt(2.0));
  }
}

inline double exact_gclu(double x, rc_approximation form) {
  if (std::isnan(x)) {
    return x;
  }
  return std::max(x, 0.0) + (std::isinf(x) ? 0.0 : x * lower_tail(x, form));
}

inline double exact_calibration(double a, double mu, double log_var, double epsilon) {
  const double std_deviation = std::exp(0.5 * log_var);
  if (std::isinf(a) && !std::isnan(mu + std_deviation)) {
    return a;
  }
  return a + a * lower_tail((a - mu) / (std_deviation + epsilon));
}

// NaN where NaN is due, infinite where that is, else within `bound` of `exact`.
inline ::testing::AssertionResult near(double found, double exact, double bound) {
  const bool close = std::isfinite(exact) && std::abs(found - exact) <= bound;
  if (std::isnan(exact) ? std::isnan(found) : (found == exact || close)) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << found << " where " << exact << " +- " << bound << " is due";
}

// Bound of an elementwise operator: `arithmetic` float32 roundings of the argument, and the result's own.
template <typename T>
double bound(double argument, double exact, double arithmetic) {
  return arithmetic * 0x1p-24 * std::abs(argument) + 1.01 * Precision<T>::kRounding * std::abs(exact) +
         Precision<T>::kSmallest;
}

}  // namespace rc::test
