// An array as 16-byte vectors: which elements a vector has, and which of them exist.
//
// Vectors start at multiples of 16 bytes, so the first one may begin before the array and the last one end behind it;
// these two are read and written element by element, and all between them whole. Where the arrays of a call lie at
// different distances from a multiple of 16 bytes, no vector is whole.

#pragma once

#include <cstdint>

#include "rc/math.h"

namespace rc {

constexpr int kVectorBytes = 16;

struct Vectors {
  std::int64_t count;  // elements
  std::int64_t total;  // vectors
  std::int32_t width;  // elements in a vector
  std::int32_t shift;  // places of the first vector that lie before the array
  bool aligned;        // whole vectors are at multiples of 16 bytes in every array

  // First element of vector v; negative for the first vector where `shift` is not 0.
  RC_HD std::int64_t first(std::int64_t v) const { return v * width - shift; }

  RC_HD bool whole(std::int64_t v) const { return aligned && first(v) >= 0 && first(v) + width <= count; }

  RC_HD bool holds(std::int64_t element) const { return element >= 0 && element < count; }
};

// Elements that `address` lies behind a multiple of 16 bytes.
RC_HD std::int32_t misplaced(const void* address, std::int32_t element_bytes) {
  return static_cast<std::int32_t>(reinterpret_cast<std::uintptr_t>(address) % kVectorBytes) / element_bytes;
}

RC_HD Vectors make_vectors(std::int64_t count, std::int32_t element_bytes, std::int32_t shift, bool aligned) {
  const std::int32_t width = kVectorBytes / element_bytes;
  const std::int32_t used = aligned ? shift : 0;
  const std::int64_t total = count == 0 ? 0 : (count + used + width - 1) / width;
  return {count, total, width, used, aligned};
}

// Vectors of arrays of `count` elements each.
template <typename... Addresses>
Vectors vectors_of(std::int64_t count, std::int32_t element_bytes, const void* array, Addresses... others) {
  const std::int32_t shift = misplaced(array, element_bytes);
  return make_vectors(count, element_bytes, shift, ((misplaced(others, element_bytes) == shift) && ...));
}

}  // namespace rc
