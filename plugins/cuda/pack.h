// One vector of a tensor in registers, and its numbers as float32.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "vectors.h"

// Code that only ever runs in a kernel, or in the tests' emulation of one on the host.
#if defined(__CUDACC__)
#define RC_KERNEL __device__ __forceinline__
#define RC_UNROLL _Pragma("unroll")
#define RC_UNROLL_4 _Pragma("unroll 4")
#else
#define RC_KERNEL inline
#define RC_UNROLL
#define RC_UNROLL_4
#endif

namespace rc {

RC_HD float to_float(float x) { return x; }
RC_HD float to_float(__half x) { return __half2float(x); }
RC_HD float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
RC_HD T from_float(float x);
template <>
RC_HD float from_float<float>(float x) {
  return x;
}
template <>
RC_HD __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
RC_HD __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

#if defined(__CUDACC__)
using Bits128 = uint4;
#else
// Stands for any type of the same memory, as uint4 does on a device; its alignment is what UBSan checks.
struct __attribute__((may_alias, aligned(kVectorBytes))) Bits128 {
  std::uint32_t words[4];
};
#endif

template <typename T>
struct alignas(kVectorBytes) Pack {
  static constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(T));
  T values[kWidth];
};

template <typename T>
RC_KERNEL Pack<T> load_whole(const T* address) {
  const Bits128 bits = *reinterpret_cast<const Bits128*>(address);
  Pack<T> pack;
  std::memcpy(&pack, &bits, sizeof pack);
  return pack;
}

template <typename T>
RC_KERNEL void store_whole(T* address, const Pack<T>& pack) {
  Bits128 bits;
  std::memcpy(&bits, &pack, sizeof pack);
  *reinterpret_cast<Bits128*>(address) = bits;
}

// Vector v of an array; places without an element are 0.
template <typename T>
RC_KERNEL Pack<T> load(const T* array, const Vectors& vectors, std::int64_t v) {
  const std::int64_t first = vectors.first(v);
  if (vectors.whole(v)) {
    return load_whole(array + first);
  }
  Pack<T> pack;
  RC_UNROLL
  for (int i = 0; i < Pack<T>::kWidth; ++i) {
    pack.values[i] = vectors.holds(first + i) ? array[first + i] : from_float<T>(0.0F);
  }
  return pack;
}

template <typename T>
RC_KERNEL void store(T* array, const Vectors& vectors, std::int64_t v, const Pack<T>& pack) {
  const std::int64_t first = vectors.first(v);
  if (vectors.whole(v)) {
    store_whole(array + first, pack);
    return;
  }
  RC_UNROLL
  for (int i = 0; i < Pack<T>::kWidth; ++i) {
    if (vectors.holds(first + i)) {
      array[first + i] = pack.values[i];
    }
  }
}

}  // namespace rc
