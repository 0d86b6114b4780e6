// Planes, the positions of one sample's channel: which plane an element belongs to.

#pragma once

#include <cstdint>

#include "functions.h"

namespace rc {

// n / d for n >= 0, d > 0: a 64-bit division takes several times as many instructions.
RC_HD std::int64_t quotient(std::int64_t n, std::int64_t d) {
  constexpr std::int64_t kNarrowest = std::int64_t{1} << 32;
  return n < kNarrowest && d < kNarrowest ? static_cast<std::uint32_t>(n) / static_cast<std::uint32_t>(d) : n / d;
}

// A run of planes of `positions` elements each, the coefficients of which stand in a table. It has at most two planes
// where its elements are kLongRun or more.
class PlaneTable {
 public:
  static constexpr std::int64_t kLongRun = 1 << 20;

  RC_HD PlaneTable(const Coefficient* coefficients, std::int32_t last, std::int64_t positions)
      : coefficients_(coefficients),
        positions_(positions),
        last_(last),
        short_positions_(positions < kLongRun ? static_cast<std::int32_t>(positions) : kLongRun),
        inverse_(1.0F / static_cast<float>(short_positions_)) {}

  RC_HD const Coefficient& operator[](std::int32_t plane) const { return coefficients_[plane]; }
  RC_HD std::int64_t positions() const { return positions_; }
  RC_HD std::int32_t last() const { return last_; }

  // The plane of the element `offset` places behind the start of the first one; a division takes three times as long.
  RC_HD std::int32_t plane_of(std::int64_t offset) const {
    if (offset >= kLongRun) {
      return offset >= positions_ ? 1 : 0;
    }
    const auto place = static_cast<std::int32_t>(offset);
    // The product's relative error, the reciprocal's included, is below 2^-21. The last element of a plane is at least
    // 2^-20 short of the next: the result may be one too small, and is never too large.
    const auto plane = static_cast<std::int32_t>(static_cast<float>(place) * inverse_);
    return place - plane * short_positions_ >= short_positions_ ? plane + 1 : plane;
  }

 private:
  const Coefficient* coefficients_;
  std::int64_t positions_;
  std::int32_t last_;
  std::int32_t short_positions_;
  float inverse_;
};

// Apply tail_of to a pack. `offset`: the place of its first element from the start of the table's first plane; it may
// be negative, and the last elements may lie behind the last plane, where there is no element.
template <typename T, bool kResidual>
RC_KERNEL void apply(Pack<T>& a, const Pack<T>& shortcut, std::int64_t offset, const PlaneTable& table) {
  constexpr int kWidth = Pack<T>::kWidth;
  std::int32_t plane = table.plane_of(offset < 0 ? 0 : offset);
  const std::int64_t next = (plane + std::int64_t{1}) * table.positions() - offset;  // first place of the next plane
  Coefficient c = table[plane];
  if (next >= kWidth) {
    RC_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      a.values[i] = from_float<T>(tail_of<T, kResidual>(to_float(a.values[i]), to_float(shortcut.values[i]), c));
    }
    return;
  }
  std::int64_t boundary = next;
  RC_UNROLL
  for (int i = 0; i < kWidth; ++i) {
    if (i == boundary && plane < table.last()) {
      c = table[++plane];
      boundary += table.positions();
    }
    a.values[i] = from_float<T>(tail_of<T, kResidual>(to_float(a.values[i]), to_float(shortcut.values[i]), c));
  }
}

}  // namespace rc
