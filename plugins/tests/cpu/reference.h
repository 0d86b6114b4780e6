// The operators in double precision, from the paper's equations and the C library's erfc.

#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "rc/cpu.h"

namespace rc::reference {

inline double tail(double x, rc_approximation form) {
  const double t = std::fabs(x);
  if (form == RC_SIGMOID) {
    return 1.0 / (1.0 + std::exp(1.702 * t));
  }
  if (form == RC_TANH) {
    return 1.0 / (1.0 + std::exp(2.0 * std::sqrt(2.0 / M_PI) * (t + 0.044715 * t * t * t)));
  }
  return 0.5 * std::erfc(t / std::sqrt(2.0));
}

inline double gclu(double x, rc_approximation form) {
  if (std::isinf(x)) {
    return x > 0 ? x : 0.0;
  }
  return std::fmax(x, 0.0) + x * tail(x, form) + (std::isnan(x) ? x : 0.0);
}

inline double calibrated(double a, double mu, double log_var, double epsilon) {
  const double z = (a - mu) / (std::exp(0.5 * log_var) + epsilon);
  return std::isinf(a) ? a : a + a * tail(z, RC_NONE);
}

// Of the nearest float, where that is a normal number; infinitely many below.
inline double error_in_ulp(double found, double exact) {
  const auto nearest = static_cast<float>(std::fabs(exact));
  if (nearest < std::numeric_limits<float>::min()) {
    return std::fabs(found) <= static_cast<double>(std::numeric_limits<float>::min()) ? 0.0 : HUGE_VAL;
  }
  const double unit = static_cast<double>(std::nextafter(nearest, HUGE_VALF)) - static_cast<double>(nearest);
  return std::fabs(found - exact) / unit;
}

// mu and log_var (2 C) of one sample a (C, P), for weights w1 (H, C), w2 (2 C, H).
inline std::vector<double> statistics(const float* a, std::size_t channels, std::size_t positions,
                                      const std::vector<float>& w1, const std::vector<float>& b1,
                                      const std::vector<float>& w2, const std::vector<float>& b2) {
  const std::size_t hidden = b1.size();
  std::vector<double> squeezed(b1.begin(), b1.end());
  for (std::size_t c = 0; c < channels; ++c) {
    double mean = 0.0;
    for (std::size_t p = 0; p < positions; ++p) {
      mean += static_cast<double>(a[c * positions + p]) / static_cast<double>(positions);
    }
    for (std::size_t h = 0; h < hidden; ++h) {
      squeezed[h] += static_cast<double>(w1[h * channels + c]) * mean;
    }
  }
  std::vector<double> result(b2.begin(), b2.end());
  for (std::size_t k = 0; k < 2 * channels; ++k) {
    for (std::size_t h = 0; h < hidden; ++h) {
      result[k] += static_cast<double>(w2[k * hidden + h]) * squeezed[h];
    }
  }
  return result;
}

}  // namespace rc::reference
