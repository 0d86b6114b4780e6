// Runs the code of a kernel on the host, a thread for every thread of the device.
//
// Blocks run one after the other, those of a cluster together. Shared memory starts out as NaN. Copies that a kernel
// starts happen only when it waits for them, so that a missing wait shows; sanitizers see every access as the
// device's threads would make it, 16-byte accesses at wrong addresses included.

#pragma once

#include <barrier>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "vectors.h"

namespace rc::test {

struct alignas(kVectorBytes) SharedVector {
  unsigned char bytes[kVectorBytes];
};

struct Warp {
  std::barrier<> barrier{32};
  float values[32] = {};
};

struct Block {
  Block(int threads, std::int64_t shared_bytes)
      : barrier(threads),
        warps(static_cast<std::size_t>(threads / 32)),
        shared(static_cast<std::size_t>((shared_bytes + kVectorBytes - 1) / kVectorBytes)) {}

  unsigned char* memory() { return reinterpret_cast<unsigned char*>(shared.data()); }

  std::barrier<> barrier;
  std::vector<Warp> warps;
  std::vector<SharedVector> shared;
};

struct Cluster {
  Cluster(int size, int threads, std::int64_t shared_bytes) : barrier(size * threads) {
    for (int i = 0; i < size; ++i) {
      blocks.push_back(std::make_unique<Block>(threads, shared_bytes));
    }
  }

  std::barrier<> barrier;
  std::vector<std::unique_ptr<Block>> blocks;
};

class HostContext {
 public:
  HostContext(Cluster& cluster, int rank, std::int64_t block, int thread, int threads)
      : cluster_(cluster),
        own_(*cluster.blocks[static_cast<std::size_t>(rank)]),
        block_(block),
        thread_(thread),
        threads_(threads) {}
  HostContext(const HostContext&) = delete;
  HostContext& operator=(const HostContext&) = delete;

  std::int64_t block() const { return block_; }
  int thread() const { return thread_; }
  int threads() const { return threads_; }
  void barrier() const { own_.barrier.arrive_and_wait(); }

  float sum(float value, int lanes) const {
    Warp& warp = own_.warps[static_cast<std::size_t>(thread_ / 32)];
    const int lane = thread_ % 32;
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      warp.values[lane] = value;
      warp.barrier.arrive_and_wait();
      value += warp.values[lane ^ distance];
      warp.barrier.arrive_and_wait();
    }
    return value;
  }

  void copy_vector(void* shared, const void* global) const {
    for (const void* address : {static_cast<const void*>(shared), global}) {
      if (reinterpret_cast<std::uintptr_t>(address) % kVectorBytes != 0) {
        throw std::logic_error("a 16-byte copy at an address that is no multiple of 16");
      }
    }
    started_.emplace_back(shared, global);
  }
  void commit() const { batches_.push_back(std::exchange(started_, {})); }

  template <int kPending>
  void wait() const {
    while (batches_.size() > kPending) {
      for (const auto& [shared, global] : batches_.front()) {
        std::memcpy(shared, global, kVectorBytes);
      }
      batches_.erase(batches_.begin());
    }
  }

  void cluster_arrive() const { arrival_.emplace(cluster_.barrier.arrive()); }
  void cluster_wait() const {
    cluster_.barrier.wait(std::move(arrival_.value()));
    arrival_.reset();
  }
  float* peer(float* shared, int rank) const {
    const auto offset = reinterpret_cast<unsigned char*>(shared) - own_.memory();
    return reinterpret_cast<float*>(cluster_.blocks[static_cast<std::size_t>(rank)]->memory() + offset);
  }

 private:
  using Copies = std::vector<std::pair<void*, const void*>>;

  Cluster& cluster_;
  Block& own_;
  std::int64_t block_;
  int thread_;
  int threads_;
  mutable Copies started_;
  mutable std::vector<Copies> batches_;
  mutable std::optional<std::barrier<>::arrival_token> arrival_;
};

// Run body(context, shared memory) for every thread of `blocks` blocks, the first of which is block `start`.
template <typename Body>
void run_grid(std::int64_t blocks, int cluster_size, int threads, std::int64_t shared_bytes, const Body& body,
              std::int64_t start = 0) {
  Cluster cluster(cluster_size, threads, shared_bytes);
  const auto poison = [&cluster]() noexcept {
    for (const auto& block : cluster.blocks) {
      for (SharedVector& vector : block->shared) {
        std::memset(vector.bytes, 0xff, sizeof vector.bytes);
      }
    }
  };
  poison();
  std::barrier between(cluster_size * threads, poison);
  const auto work = [&](int rank, int thread) {
    for (std::int64_t first = start; first < start + blocks; first += cluster_size) {
      body(HostContext(cluster, rank, first + rank, thread, threads),
           cluster.blocks[static_cast<std::size_t>(rank)]->memory());
      between.arrive_and_wait();
    }
  };
  std::vector<std::thread> workers;
  for (int rank = 0; rank < cluster_size; ++rank) {
    for (int thread = 0; thread < threads; ++thread) {
      workers.emplace_back(work, rank, thread);
    }
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
}

}  // namespace rc::test
