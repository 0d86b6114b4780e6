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

// A run of planes of `positions` elements each, the coefficients of which stand in a table.
struct PlaneTable {
  const Coefficient* coefficients;
  std::int32_t last;  // index of the last plane in the table
  std::int64_t positions;
};

// Apply tail_of to a pack. `offset`: the place of its first element from the start of the table's first plane; it may
// be negative, and the last elements may lie behind the last plane, where there is no element.
template <typename T, bool kResidual>
RC_KERNEL void apply(Pack<T>& a, const Pack<T>& shortcut, std::int64_t offset, const PlaneTable& table) {
  constexpr int kWidth = Pack<T>::kWidth;
  std::int32_t plane = static_cast<std::int32_t>(quotient(offset < 0 ? 0 : offset, table.positions));
  const std::int64_t next = (plane + std::int64_t{1}) * table.positions - offset;  // first place of the next plane
  Coefficient c = table.coefficients[plane];
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
    if (i == boundary && plane < table.last) {
      c = table.coefficients[++plane];
      boundary += table.positions;
    }
    a.values[i] = from_float<T>(tail_of<T, kResidual>(to_float(a.values[i]), to_float(shortcut.values[i]), c));
  }
}

}  // namespace rc
