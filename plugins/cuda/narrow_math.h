// The maths for results that are rounded to 16 bits: float32 arithmetic with the device's own exponential and
// reciprocal, far fewer instructions than in rc/math.h.
//
// An H200 moves 4.6 halves in and out of a multiprocessor in a cycle, which leaves 27 instructions for each; rc/math.h
// takes more, nearly all of them for bits that a half does not have. Errors before the result is rounded, for every
// half and bfloat16 (tests/cuda/narrow_math_test.cpp): at most 6 x 2^-24 |x|, and 2^-16 of the result where it is
// above 2^-110; smaller ones may be 0.

#pragma once

#include <cmath>

#include "rc/math.h"

namespace rc::narrow {

// 2^x; 0 where the result is below the smallest normal number.
RC_HD float exp2(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = std::exp2(x);
  return y < 1.175494351e-38F ? 0.0F : y;
#endif
}

RC_HD float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0F / x;
#endif
}

// The smaller and the larger of two numbers, NaN where one of them is: one instruction each.
RC_HD float smaller(float x, float bound) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(bound));
  return y;
#else
  return x > bound ? bound : x;
#endif
}

RC_HD float larger(float x, float bound) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(bound));
  return y;
#else
  return x < bound ? bound : x;
#endif
}

// x with the sign of `of`.
RC_HD float with_sign(float x, float of) {
  return detail::as_float((detail::as_bits(x) & 0x7fffffffU) | (detail::as_bits(of) & 0x80000000U));
}

// Phi(-t) for t >= 0, as in rc/math.h with K = 4.25 and P of degree 7. P's relative error is 4e-8 where the tail
// matters against 1 and 7e-7 far out (weighted least squares towards minimax on Chebyshev nodes, t in [0, 14]).
// An infinite t gives 0 by itself: its reciprocal and its exponential are 0.
RC_HD float lower_tail(float t) {
  constexpr float kCentre = 4.25F;
  constexpr float kHalfLog2E = 0.72134752F;
  const float r = reciprocal(t + kCentre);
  const float q = detail::multiply_add(-2.0F * kCentre, r, 1.0F);
  float p = 0.00198776461F;
  p = detail::multiply_add(p, q, -0.0012479435F);
  p = detail::multiply_add(p, q, -0.0194137674F);
  p = detail::multiply_add(p, q, 0.0854439586F);
  p = detail::multiply_add(p, q, -0.220482543F);
  p = detail::multiply_add(p, q, 0.418208122F);
  p = detail::multiply_add(p, q, -0.625132561F);
  p = detail::multiply_add(p, q, 0.759554684F);
  return exp2(t * t * -kHalfLog2E) * r * p;
}

// sigmoid(-y) for y >= 0 given in units of ln 2.
RC_HD float sigmoid_negative(float y) {
  const float e = exp2(-y);
  return e * reciprocal(1.0F + e);
}

// Eq. 7's and Eq. 8's forms of Phi(-t).
RC_HD float lower_tail_sigmoid(float t) { return sigmoid_negative(2.45546696F * t); }
RC_HD float lower_tail_tanh(float t) {
  return sigmoid_negative(t * detail::multiply_add(0.10294324F * t, t, 2.30220820F));
}

// ReLU(x) + x Phi(-|x|): x is clamped to where the tail is 0 already, so that an infinite one does not meet it.
RC_HD float gclu(float x) {
  const float t = smaller(detail::magnitude(x), 16.0F);
  return larger(x, 0.0F) + with_sign(t * lower_tail(t), x);
}
RC_HD float gclu_sigmoid(float x) {
  const float t = smaller(detail::magnitude(x), 70.0F);
  return larger(x, 0.0F) + with_sign(t * lower_tail_sigmoid(t), x);
}
RC_HD float gclu_tanh(float x) {
  const float t = smaller(detail::magnitude(x), 16.0F);
  return larger(x, 0.0F) + with_sign(t * lower_tail_tanh(t), x);
}

// a + a Phi(-|(a - mu) slope|).
RC_HD float calibrated(float a, float mu, float slope) {
  const float response = larger(smaller(a, kLargest), -kLargest);
  return detail::multiply_add(response, lower_tail(detail::magnitude((response - mu) * slope)), a);
}

}  // namespace rc::narrow
