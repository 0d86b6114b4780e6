// The maths of the rc operators, once, for host and device: scalar, in float32, without branches.
//
// Written so that compilers turn a loop over any of these functions into vector code: selections in place of
// branches, no calls into libm, one polynomial for the whole range. Names and equations are the paper's; the contract
// at infinity and NaN is that of rc_deploy/schema.py.
//
// Error against exact arithmetic, tested over the whole range (tests/plugins/test_math.py), in units in the last place
// where the result is a normal number:
//
//   lower_tail(x)           Phi(-|x|)                                  3 ULP
//   gclu(x)                 ReLU(x) + x Phi(-|x|)            Eq. 6     4 ULP
//   gclu_sigmoid(x)         ... with sigmoid(-1.702 |x|)     Eq. 7     4 ULP
//   gclu_tanh(x)            ... with the tanh form           Eq. 8     4 ULP
//   calibrated(a, mu, s)    a + a Phi(-|(a - mu) s|)         Eq. 2-5   4 ULP for the rounded z = (a - mu) s
//
// The compiler must not reassociate (no -ffast-math); contraction to fused multiply-adds is harmless.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define RC_HD __host__ __device__ __forceinline__
#else
#define RC_HD inline
#endif

// Fused multiply-add is one instruction here; elsewhere it would be a call into libm, a hundred times slower.
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
#define RC_HAS_FMA 1
#else
#define RC_HAS_FMA 0
#endif

namespace rc {

// Largest finite float: products use it in place of infinity, where 0 * inf would give NaN for the limit 0.
constexpr float kLargest = 3.402823466e38F;

// A sum of two floats, high + low with |low| at most half a unit in the last place of high.
struct Pair {
  float high;
  float low;
};

namespace detail {

RC_HD float as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

RC_HD std::uint32_t as_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

RC_HD float magnitude(float x) { return as_float(as_bits(x) & 0x7fffffffU); }

// NaN stays NaN: both comparisons are false for it.
RC_HD float at_most(float x, float bound) { return x > bound ? bound : x; }
RC_HD float at_least(float x, float bound) { return x < bound ? bound : x; }
RC_HD float within(float x, float bound) { return at_least(at_most(x, bound), -bound); }
RC_HD float relu(float x) { return x < 0.0F ? 0.0F : x; }

// a * b + c, rounded once or twice.
RC_HD float multiply_add(float a, float b, float c) {
#if RC_HAS_FMA
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// a * b as a pair. Without fused multiply-add the factors are split into halves of 12 bits (Dekker), whose products
// are exact.
RC_HD Pair product(float a, float b) {
  const float high = a * b;
#if RC_HAS_FMA
  return {high, __builtin_fmaf(a, b, -high)};
#else
  const float a_high = as_float(as_bits(a) & 0xfffff000U);
  const float b_high = as_float(as_bits(b) & 0xfffff000U);
  const float a_low = a - a_high;
  const float b_low = b - b_high;
  return {high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low};
#endif
}

// a + b as a pair (Knuth).
RC_HD Pair sum(float a, float b) {
  const float high = a + b;
  const float part = high - a;
  return {high, (a - (high - part)) + (b - part)};
}

}  // namespace detail

// A lower tail as mantissa * first * second, the last two being powers of two. Kept apart, because the tail itself
// can be too small to be a normal number where its product with a response is one.
struct Tail {
  float mantissa;
  float first;
  float second;

  RC_HD float times(float a) const { return a * mantissa * first * second; }
};

namespace detail {

// exp(-(y.high + y.low)) for y.high >= 0; 0 from where float32 has no number for it.
//
// exp(-h) = 2^n exp(r), r = -h - n ln 2 in [-ln 2 / 2, ln 2 / 2]; exp(r) = 1 + r + r^2 p(r), relative error 3e-9
// (least squares, reweighted towards minimax, on Chebyshev nodes). 2^n comes as two factors, as it may be below the
// smallest normal number.
RC_HD Tail exp_negative(Pair y) {
  constexpr float kLog2E = 1.442695041F;
  constexpr float kLn2High = 0.693359375F;  // 9 bits: its products with n are exact
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer

  const float h = at_most(y.high, 120.0F);
  const float n = (kRound - h * kLog2E) - kRound;
  const float r = multiply_add(n, -kLn2Low, multiply_add(n, -kLn2High, -h));
  float p = 0.0013814467F;
  p = multiply_add(p, r, 0.008368781F);
  p = multiply_add(p, r, 0.041668393F);
  p = multiply_add(p, r, 0.1666652F);
  p = multiply_add(p, r, 0.49999994F);
  const float e = multiply_add(r * r, p, r);
  const float mantissa = (e - multiply_add(e, y.low, y.low)) + 1.0F;  // exp(r) (1 - low)

  const std::int32_t whole = static_cast<std::int32_t>(n == n ? n : 0.0F);
  const std::int32_t half = whole / 2;
  const float first = as_float(static_cast<std::uint32_t>(half + 127) << 23U);
  const float second = as_float(static_cast<std::uint32_t>(whole - half + 127) << 23U);
  return {mantissa, first, second};
}

// sigmoid(-y) = e / (1 + e), e = exp(-y), for y >= 0.
RC_HD Tail sigmoid_negative(Pair y) {
  const Tail e = exp_negative(y);
  return {e.mantissa / (1.0F + e.times(1.0F)), e.first, e.second};
}

}  // namespace detail

// Phi(-|x|), the standard normal distribution function's lower tail; in [0, 1/2].
//
// With t = |x| and K = 3.775: Phi(-t) = exp(-t^2 / 2) P(q) / (t + K), q = (t - K) / (t + K) = 1 - 2 K / (t + K), after
// the classic substitution for erfc. P has degree 8 and, with its rounded coefficients, relative error 3.1e-8 on t in
// [0, 14.5]; from 15 on the result is 0. The rounding errors of t^2 (which alone would cost t^2 / 2 units in the last
// place), of t + K, of its reciprocal and of q are carried along into the exponential's low part.
RC_HD Tail lower_tail(float x) {
  constexpr float kCentre = 3.775F;
  constexpr float kSlope = 0.8F;  // of -ln P: between 1.0 at q = -1 and 0.6 at q = 0.6
  const float t = detail::at_most(detail::magnitude(x), 15.0F);
  const Pair divisor = detail::sum(kCentre, t);
  const float reciprocal = 1.0F / divisor.high;
  const Pair unit = detail::product(divisor.high, reciprocal);
  const float reciprocal_error = ((unit.high - 1.0F) + unit.low) + divisor.low * reciprocal;
  const Pair share = detail::product(2.0F * kCentre, reciprocal);
  const float q = 1.0F - share.high;
  const float q_error = ((1.0F - q) - share.high) + (share.high * reciprocal_error - share.low);

  float p = 0.000451545F;
  p = detail::multiply_add(p, q, 0.00061911443F);
  p = detail::multiply_add(p, q, -0.0042012203F);
  p = detail::multiply_add(p, q, 0.000476311F);
  p = detail::multiply_add(p, q, 0.03967488F);
  p = detail::multiply_add(p, q, -0.15505236F);
  p = detail::multiply_add(p, q, 0.3565053F);
  p = detail::multiply_add(p, q, -0.5902825F);
  p = detail::multiply_add(p, q, 0.75083005F);

  const Pair square = detail::product(t, t);
  const Tail e = detail::exp_negative({0.5F * square.high, 0.5F * square.low + (reciprocal_error + kSlope * q_error)});
  return {e.mantissa * (p * reciprocal), e.first, e.second};
}

// sigmoid(-1.702 |x|), Eq. 7's form of Phi(-|x|); 0 from 70 on.
RC_HD Tail lower_tail_sigmoid(float x) {
  constexpr float kHigh = 1.702F;
  constexpr float kLow = static_cast<float>(1.702 - static_cast<double>(kHigh));
  const float t = detail::at_most(detail::magnitude(x), 70.0F);
  const Pair y = detail::product(kHigh, t);
  return detail::sigmoid_negative({y.high, detail::multiply_add(kLow, t, y.low)});
}

// (1 - tanh u) / 2 = sigmoid(-2 u), u = sqrt(2 / pi) (t + 0.044715 t^3), t = |x|: Eq. 8's form of Phi(-|x|); 0 from
// 16 on.
RC_HD Tail lower_tail_tanh(float x) {
  constexpr double kScale = 1.5957691216057307;  // 2 sqrt(2 / pi)
  constexpr float kLinear = static_cast<float>(kScale);
  constexpr float kLinearLow = static_cast<float>(kScale - static_cast<double>(kLinear));
  constexpr float kCubic = static_cast<float>(kScale * 0.044715);
  constexpr float kCubicLow = static_cast<float>(kScale * 0.044715 - static_cast<double>(kCubic));
  const float t = detail::at_most(detail::magnitude(x), 16.0F);
  const Pair square = detail::product(t, t);
  const Pair cubic = detail::product(kCubic, square.high);
  const Pair slope = detail::sum(kLinear, cubic.high);
  const float cubic_low = cubic.low + detail::multiply_add(kCubic, square.low, kCubicLow * square.high);
  const float slope_low = slope.low + (cubic_low + kLinearLow);
  const Pair y = detail::product(slope.high, t);
  return detail::sigmoid_negative({y.high, detail::multiply_add(slope_low, t, y.low)});
}

// ReLU(x) + x Phi(-|x|), Eq. 6, for each form of Phi. Where x is clamped, its tail is 0 already.
RC_HD float with_tail(float x, Tail tail) { return detail::relu(x) + tail.times(detail::within(x, 100.0F)); }

RC_HD float gclu(float x) { return with_tail(x, lower_tail(x)); }
RC_HD float gclu_sigmoid(float x) { return with_tail(x, lower_tail_sigmoid(x)); }
RC_HD float gclu_tanh(float x) { return with_tail(x, lower_tail_tanh(x)); }

// What z = (a - mu) slope is scaled by: 1 / (std + epsilon), std = exp(log_var / 2); once per sample and channel.
RC_HD float calibration_slope(float std, float epsilon) { return 1.0F / (std + epsilon); }

// a + a Phi(-|(a - mu) slope|), Eq. 2-5; the calibration of an infinite a is 0, unless its slope is 0 too.
RC_HD float calibrated(float a, float mu, float slope) {
  const float response = detail::within(a, kLargest);
  return a + lower_tail((response - mu) * slope).times(response);
}

}  // namespace rc
