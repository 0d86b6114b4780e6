// The functions that the kernels apply, by the type of the tensors.

#pragma once

#include <cmath>

#include "narrow_math.h"
#include "pack.h"
#include "rc/math.h"
#include "rc/types.h"

namespace rc {

template <typename T>
constexpr bool kNarrow = sizeof(T) == 2;

template <typename T, rc_approximation kForm>
RC_HD float activate(float x) {
  if constexpr (kForm == RC_SIGMOID) {
    return kNarrow<T> ? narrow::gclu_sigmoid(x) : gclu_sigmoid(x);
  } else if constexpr (kForm == RC_TANH) {
    return kNarrow<T> ? narrow::gclu_tanh(x) : gclu_tanh(x);
  } else {
    return kNarrow<T> ? narrow::gclu(x) : gclu(x);
  }
}

// What the responses of one plane, a sample's channel, are calibrated with.
struct Coefficient {
  float mu;
  float slope;
};

RC_HD Coefficient coefficient(float mu, float log_var, float epsilon) {
  return {mu, calibration_slope(expf(0.5F * log_var), epsilon)};
}

template <typename T>
RC_HD float calibrate(float a, Coefficient c) {
  return kNarrow<T> ? narrow::calibrated(a, c.mu, c.slope) : calibrated(a, c.mu, c.slope);
}

// ReLU(A + RC(A) + Shortcut), or A + RC(A) where there is no shortcut.
template <typename T, bool kResidual>
RC_HD float tail_of(float a, float shortcut, Coefficient c) {
  const float sum = calibrate<T>(a, c);
  return kResidual ? narrow::larger(sum + shortcut, 0.0F) : sum;
}

}  // namespace rc
