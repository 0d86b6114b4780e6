// What a kernel asks of the device it runs on. tests/cuda/emulation.h has the same names on the host.

#pragma once

#include <cstdint>

#include "vectors.h"

namespace rc {

// Blocks of 256 threads that a processor is to hold at least, for __launch_bounds__. Of 16-bit types four, which leave
// each thread 64 registers: left to itself nvcc 13.0 spills a few to make room for a fifth (8.0 to 8.9: the
// means; 12.0: GCLU and CalibratedResidual). 0 leaves it to the compiler, which spills nothing of float32
// (docs/kernels.md).
template <typename T>
constexpr int kResidentBlocks = sizeof(T) == 2 ? 4 : 0;

struct DeviceContext {
  __device__ __forceinline__ std::int64_t block() const { return blockIdx.x; }
  __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ __forceinline__ void barrier() const { __syncthreads(); }

  // The sum of `value` over aligned groups of `lanes` threads, a power of two up to 32, in each of them. Every thread
  // of the warp calls it.
  __device__ __forceinline__ float sum(float value, int lanes) const {
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      value += __shfl_xor_sync(0xffffffffU, value, distance);
    }
    return value;
  }

  // Start to copy 16 bytes to shared memory; what one thread starts before commit() is one batch of it.
  __device__ __forceinline__ void copy_vector(void* shared, const void* global) const {
    const auto target = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(__cvta_generic_to_global(global))
                 : "memory");
  }
  __device__ __forceinline__ void commit() const { asm volatile("cp.async.commit_group;" ::: "memory"); }

  // Wait until at most kPending of this thread's batches are under way; other threads see the data after a barrier.
  template <int kPending>
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
  }

  // Barrier over the cluster in two halves, and the address of a peer's shared memory; only where a launch has
  // clusters, which is never before compute capability 9.0.
  __device__ __forceinline__ void cluster_arrive() const {
#if __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive();
#endif
  }
  __device__ __forceinline__ void cluster_wait() const {
#if __CUDA_ARCH__ >= 900
    __cluster_barrier_wait();
#endif
  }
  __device__ __forceinline__ float* peer(float* shared, [[maybe_unused]] int rank) const {
#if __CUDA_ARCH__ >= 900
    return static_cast<float*>(__cluster_map_shared_rank(shared, static_cast<unsigned>(rank)));
#else
    return shared;
#endif
  }
};

}  // namespace rc
