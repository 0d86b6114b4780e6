// Half and bfloat16 as they lie in memory, and their conversions: integer arithmetic without branches, which compilers
// turn into vector code on every instruction set. Rounding is to nearest, ties to even; NaN stays NaN.

#pragma once

#include "rc/math.h"

namespace rc {

struct Half {
  std::uint16_t bits;
};

struct BFloat16 {
  std::uint16_t bits;
};

RC_HD float load(float x) { return x; }

RC_HD float load(BFloat16 x) { return detail::as_float(static_cast<std::uint32_t>(x.bits) << 16U); }

RC_HD float load(Half x) {
  constexpr std::uint32_t kRebias = 112U << 23U;  // 127 - 15
  const std::uint32_t sign = (x.bits & 0x8000U) << 16U;
  const std::uint32_t magnitude = (x.bits & 0x7fffU) << 13U;
  const std::uint32_t normal = magnitude + kRebias;
  const float offset = detail::as_float(magnitude + (113U << 23U)) - 6.103515625e-5F;  // 2^-14 (1 + m) - 2^-14
  const std::uint32_t finite = magnitude < (1U << 23U) ? detail::as_bits(offset) : normal;
  const std::uint32_t value = magnitude >= (31U << 23U) ? normal + kRebias : finite;
  return detail::as_float(value | sign);
}

template <class T>
RC_HD T store(float x);

template <>
RC_HD float store<float>(float x) {
  return x;
}

template <>
RC_HD BFloat16 store<BFloat16>(float x) {
  const std::uint32_t bits = detail::as_bits(x);
  const std::uint32_t rounded = bits + 0x7fffU + ((bits >> 16U) & 1U);
  const std::uint32_t value = (bits & 0x7fffffffU) > 0x7f800000U ? bits | 0x400000U : rounded;
  return {static_cast<std::uint16_t>(value >> 16U)};
}

template <>
RC_HD Half store<Half>(float x) {
  const std::uint32_t bits = detail::as_bits(x);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t normal = (magnitude - (112U << 23U) + 0xfffU + ((magnitude >> 13U) & 1U)) >> 13U;
  // Adding 0.5, whose last place is worth the smallest half, leaves the rounded multiple of it in the last bits.
  const std::uint32_t small = detail::as_bits(detail::as_float(magnitude) + 0.5F) - 0x3f000000U;
  const std::uint32_t finite = magnitude < (113U << 23U) ? small : normal;
  const std::uint32_t infinite = magnitude > 0x7f800000U ? 0x7e00U : 0x7c00U;
  const std::uint32_t value = magnitude >= (143U << 23U) ? infinite : finite;
  return {static_cast<std::uint16_t>(value | ((bits >> 16U) & 0x8000U))};
}

}  // namespace rc
