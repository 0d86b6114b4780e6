// The maths of the rc operators, once, for host and device: scalar, in float32, without branches.
//
// Written so that compilers turn a loop over any of these functions into vector code: selections in place of
// branches, no calls into libm, one polynomial for the whole range. Names and equations are the paper's; the contract
// at infinity and NaN is that of rc_deploy/schema.py.
//
// Error against exact arithmetic in units in the last place, where the result is a normal number, for every float from
// 2^-9 on, with and without fused multiply-add (benchmarks/native_ulp.py; calibrated: samples of
// tests/plugins/test_math.py):
//
//   lower_tail(x)           Phi(-|x|)                                  4 ULP
//   gclu(x)                 ReLU(x) + x Phi(-|x|)            Eq. 6     4 ULP
//   gclu_sigmoid(x)         ... with sigmoid(-1.702 |x|)     Eq. 7     4 ULP
//   gclu_tanh(x)            ... with the tanh form           Eq. 8     4 ULP
//   calibrated(a, mu, s)    a + a Phi(-|(a - mu) s|)         Eq. 2-5   4 ULP for the rounded z = (a - mu) s
//
// Results below the smallest normal number may come out as 0.
//
// The compiler must not reassociate (no -ffast-math); contraction to fused multiply-adds is harmless.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define RC_HD __host__ __device__ __forceinline__
#else
// Always, not only where it pays: files compiled for different instruction sets must not share one copy.
#define RC_HD inline __attribute__((always_inline))
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

RC_HD float with_sign(float magnitude, float x) { return as_float(as_bits(magnitude) | (as_bits(x) & 0x80000000U)); }

// min(|x|, bound) by an integer minimum, one instruction; NaN becomes the bound.
RC_HD float bounded_magnitude(float x, float bound) {
  const std::uint32_t bits = as_bits(magnitude(x));
  const std::uint32_t end = as_bits(bound);
  return as_float(bits < end ? bits : end);
}

// NaN stays NaN: the comparisons are false for it.
RC_HD float at_most(float x, float bound) { return x > bound ? bound : x; }
RC_HD float at_least(float x, float bound) { return x < bound ? bound : x; }
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

// a * b + c, rounded once, or nearly so where that takes more than one instruction.
RC_HD float exact_multiply_add(float a, float b, float c) {
#if RC_HAS_FMA
  return __builtin_fmaf(a, b, c);
#else
  const Pair ab = product(a, b);
  return ab.high + (ab.low + c);
#endif
}

// a * b + c as a pair where |a b| <= |c| / 2, which makes c - high exact.
RC_HD Pair multiply_add_pair(float a, float b, float c) {
  const float high = multiply_add(a, b, c);
  return {high, multiply_add(a, b, c - high)};
}

// a + b as a pair (Knuth).
RC_HD Pair sum(float a, float b) {
  const float high = a + b;
  const float part = high - a;
  return {high, (a - (high - part)) + (b - part)};
}

}  // namespace detail

// A lower tail as mantissa * power, the latter a power of two. Kept apart, because the tail itself can be too small to
// be a normal number where its product with a response is one.
struct Tail {
  float mantissa;
  float power;

  // base + a * tail. Both products with the power are exact.
  RC_HD float times_plus(float a, float base) const { return detail::multiply_add(a * power, mantissa, base); }
};

namespace detail {

// An exponential as (mantissa.high + mantissa.low) * power.
struct Exponential {
  Pair mantissa;
  float power;
};

// 2^kShift scale exp(-(y.high + y.low)) for 0 <= y.high < (127.5 + kShift) ln 2; exactly 0 once the exponential is
// below 2^-(126.5 + kShift).
//
// exp(-y) = 2^n exp(r), r = -y - n ln 2 in [-ln 2 / 2, ln 2 / 2]; exp(r) = 1 + r + r^2 p(r), relative error 3e-9
// (least squares, reweighted towards minimax, on Chebyshev nodes). n is rounded to an integer by adding it to a number
// whose last place is worth one, and stands then, biased, in the last bits of the sum: shifted, they are 2^n's.
template <int kShift>
RC_HD Exponential exp_negative(Pair y, float scale) {
  constexpr float kLog2E = 1.442695041F;
  constexpr float kLn2High = 0.693359375F;  // 9 bits: its products with n are exact
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F + 127.0F + kShift;  // 1.5 * 2^23 and the exponent's bias

  const float biased = multiply_add(y.high, -kLog2E, kRound);
  const float n = biased - kRound;
  const float r = multiply_add(n, -kLn2High, -y.high) - multiply_add(n, kLn2Low, y.low);  // rounded once
  float p = scale * 0.0013814467F;
  p = multiply_add(p, r, scale * 0.008368781F);
  p = multiply_add(p, r, scale * 0.041668393F);
  p = multiply_add(p, r, scale * 0.1666652F);
  p = multiply_add(p, r, scale * 0.49999994F);
  p = multiply_add(p, r, scale);
  return {multiply_add_pair(p, r, scale), as_float(as_bits(biased) << 23U)};
}

// sigmoid(-y) = e / (1 + e), e = exp(-y), for 0 <= y < 104. Shifted, so that responses of up to 100 meet the power
// before anything is rounded as a number below the smallest normal one.
RC_HD Tail sigmoid_negative(Pair y) {
  constexpr int kShift = 24;
  const Exponential e = exp_negative<kShift>(y, 1.0F / (1 << kShift));
  return {e.mantissa.high / multiply_add(e.mantissa.high, e.power, 1.0F), e.power};
}

}  // namespace detail

// Phi(-|x|), the standard normal distribution function's lower tail, for 0 <= t <= kNormalEnd, t = |x|; in [0, 1/2].
//
// Phi(-t) = c exp(-t^2 / 2) D(t) / (t D(t) + N(t)), c about 1 / sqrt(2 pi), D and N of degree 4:
// relative error 1e-8 (least squares, reweighted towards minimax; of the rounded coefficients near these, those whose
// largest total error over every float is least). They are all positive, so nothing cancels, and for large t the
// rounding errors of D do, N / D being small. t^2 / 2 is carried as a pair: its rounding error alone would cost t^2 / 2
// units in the last place.
constexpr float kNormalEnd = 13.28F;  // the tail is 0 there, see exp_negative

RC_HD Tail lower_tail(float t) {
  const detail::Exponential e = detail::exp_negative<0>(detail::product(t, 0.5F * t), 0.39895F);
  float d = 0.0149343442F;
  d = detail::multiply_add(d, t, 0.152842939F);
  d = detail::multiply_add(d, t, 0.7058658F);
  d = detail::multiply_add(d, t, 1.72079241F);
  d = detail::multiply_add(d, t, 2.00828815F);
  float n = 1.74642955e-5F;
  n = detail::multiply_add(n, t, 0.0146331834F);
  n = detail::multiply_add(n, t, 0.156852201F);
  n = detail::multiply_add(n, t, 0.64327246F);
  n = detail::multiply_add(n, t, 1.60241318F);
  const float numerator = detail::exact_multiply_add(d, e.mantissa.high, d * e.mantissa.low);
  return {numerator / detail::exact_multiply_add(d, t, n), e.power};
}

// sigmoid(-1.702 |x|), Eq. 7's form of Phi(-|x|), for 0 <= t <= kSigmoidEnd, t = |x|.
constexpr float kSigmoidEnd = 61.5F;  // the tail is 0 there

RC_HD Tail lower_tail_sigmoid(float t) {
  constexpr float kHigh = 1.702F;
  constexpr float kLow = static_cast<float>(1.702 - static_cast<double>(kHigh));
  const Pair y = detail::product(kHigh, t);
  return detail::sigmoid_negative({y.high, detail::multiply_add(kLow, t, y.low)});
}

// (1 - tanh u) / 2 = sigmoid(-2 u), u = sqrt(2 / pi) (t + 0.044715 t^3), t = |x|: Eq. 8's form of Phi(-|x|), for
// 0 <= t <= kTanhEnd.
constexpr float kTanhEnd = 10.7F;  // the tail is 0 there

RC_HD Tail lower_tail_tanh(float t) {
  constexpr double kScale = 1.5957691216057307;  // 2 sqrt(2 / pi)
  constexpr float kLinear = static_cast<float>(kScale);
  constexpr float kLinearLow = static_cast<float>(kScale - static_cast<double>(kLinear));
  constexpr float kCubic = static_cast<float>(kScale * 0.044715);
  constexpr float kCubicLow = static_cast<float>(kScale * 0.044715 - static_cast<double>(kCubic));
  const Pair square = detail::product(t, t);
  const Pair cubic = detail::product(kCubic, square.high);
  const Pair slope = detail::sum(kLinear, cubic.high);
  const float cubic_low = cubic.low + detail::multiply_add(kCubic, square.low, kCubicLow * square.high);
  const float slope_low = slope.low + (cubic_low + kLinearLow);
  const Pair y = detail::product(slope.high, t);
  return detail::sigmoid_negative({y.high, detail::multiply_add(slope_low, t, y.low)});
}

// ReLU(x) + x Phi(-|x|), Eq. 6, for each form of Phi. Where x is bounded, its tail is 0 already; NaN is in ReLU(x).
RC_HD float gclu(float x) {
  const float t = detail::bounded_magnitude(x, kNormalEnd);
  return lower_tail(t).times_plus(detail::with_sign(t, x), detail::relu(x));
}

RC_HD float gclu_sigmoid(float x) {
  const float t = detail::bounded_magnitude(x, kSigmoidEnd);
  return lower_tail_sigmoid(t).times_plus(detail::with_sign(t, x), detail::relu(x));
}

RC_HD float gclu_tanh(float x) {
  const float t = detail::bounded_magnitude(x, kTanhEnd);
  return lower_tail_tanh(t).times_plus(detail::with_sign(t, x), detail::relu(x));
}

// exp(log_var / 2), 2 ULP; infinity already from log_var = 176 on, where its reciprocal is below 2^-126.
RC_HD float standard_deviation(float log_var) {
  const float half = 0.5F * log_var;
  const detail::Exponential e = detail::exp_negative<0>({detail::at_most(detail::magnitude(half), 88.37F), 0.0F}, 1.0F);
  const float inverse = e.mantissa.high * e.power;
  return half > 0.0F ? 1.0F / inverse : inverse;
}

// What z = (a - mu) slope is scaled by: 1 / (std + epsilon); once per sample and channel. For std = 0 and an epsilon
// below 2^-128 it has no float: the largest takes its place, because infinity would give NaN where a = mu.
RC_HD float calibration_slope(float std, float epsilon) { return detail::at_most(1.0F / (std + epsilon), kLargest); }

// Phi(-t) for 0 <= t <= kWeightEnd, to an absolute error of 2.3e-7: a weight is added to 1, which forgives what a
// product with a response would not, so that this takes half the time of lower_tail.
//
// Phi(-t) = 1/2 - t P(t^2) / Q(t^2), P and Q of degree 5: absolute error 6e-9 (least squares, reweighted towards
// minimax). The end is where the weight comes out as 0 or 2^-25, with fused multiply-add and without: both are lost in
// the sum with 1.
constexpr float kWeightEnd = 5.35F;

RC_HD float calibration_weight(float t) {
  const float u = t * t;
  float p = 2.33868515664426e-8F;
  p = detail::multiply_add(p, u, 6.359760391205782e-6F);
  p = detail::multiply_add(p, u, 1.643060240894556e-4F);
  p = detail::multiply_add(p, u, 4.650753922760487e-3F);
  p = detail::multiply_add(p, u, 3.3370859920978546e-2F);
  p = detail::multiply_add(p, u, 3.98942232131958e-1F);
  float q = 1.2165752423243248e-6F;
  q = detail::multiply_add(q, u, 7.239436672534794e-5F);
  q = detail::multiply_add(q, u, 1.8588934326544404e-3F);
  q = detail::multiply_add(q, u, 2.8377868235111237e-2F);
  q = detail::multiply_add(q, u, 2.503144145011902e-1F);
  q = detail::multiply_add(q, u, 1.0F);
  return 0.5F - t * p / q;
}

// a + a Phi(-|(a - mu) slope|), Eq. 2-5; the calibration of an infinite a is 0, unless its slope is 0 too.
RC_HD float calibrated(float a, float mu, float slope) {
  const float response = detail::at_least(detail::at_most(a, kLargest), -kLargest);
  const float t = detail::at_most(detail::magnitude((response - mu) * slope), kWeightEnd);
  return detail::multiply_add(response, calibration_weight(t), a);
}

}  // namespace rc
