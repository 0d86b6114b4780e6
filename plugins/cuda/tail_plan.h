// How the whole tail of a residual block is launched: in one kernel where a sample fits in shared memory, and where
// things lie there.
//
// A sample's channels are split over the blocks of a cluster, which pass each other their channels' means.

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "functions.h"
#include "vectors.h"

namespace rc {

struct TailShape {
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t positions;
  std::int64_t hidden;
  std::int32_t element_bytes;
};

struct DeviceLimits {
  int processors;
  std::int64_t shared_bytes;  // of one block, with opt-in
  bool clusters;
};

// Places in a block's shared memory, in bytes from its start.
struct TailLayout {
  std::int64_t responses;     // A's vectors
  std::int64_t shortcut;      // the shortcut's; 0 where it is read from memory
  std::int64_t means;         // of all channels
  std::int64_t hidden;        // the hidden layer's
  std::int64_t coefficients;  // of the block's own channels
  std::int64_t partials;      // sums of parts of planes
  std::int64_t weights;       // W1, B1 and the block's rows of W2 and B2; 0 where they are read from memory
  std::int64_t bytes;
};

struct TailPlan {
  bool fused;
  int cluster;  // blocks that share a sample
  int threads;
  TailLayout layout;
};

RC_HD int power_of_two_from(std::int64_t n, int most) {
  int power = 1;
  while (power < n && power < most) {
    power *= 2;
  }
  return power;
}

// Channels of the cluster's block `rank`: from first_channel(rank) to first_channel(rank + 1).
RC_HD std::int32_t first_channel(std::int32_t channels, int rank, int cluster) {
  return static_cast<std::int32_t>(std::int64_t{channels} * rank / cluster);
}

// How the threads of a block share the planes: groups of `lanes` threads, `parts` of them to a plane.
struct PlaneGroups {
  int lanes;
  int parts;
};

RC_HD PlaneGroups plane_groups(std::int64_t positions, std::int32_t width, int planes, int threads) {
  const int lanes = power_of_two_from((positions + width - 1) / width, 32);
  const int warps = threads / 32;
  return {lanes, lanes == 32 && planes < warps ? warps / planes : 1};
}

inline std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

namespace detail {

inline TailLayout tail_layout(const TailShape& shape, const DeviceLimits& device, int cluster, int threads,
                              std::int64_t vectors) {
  const std::int64_t planes = (shape.channels + cluster - 1) / cluster;
  const std::int64_t slice = vectors * kVectorBytes;
  const std::int64_t float_bytes = sizeof(float);
  TailLayout layout{};
  std::int64_t end = slice;
  const auto place = [&end](std::int64_t bytes) {
    const std::int64_t start = end;
    end = round_up(end + bytes, kVectorBytes);
    return start;
  };
  layout.means = place(shape.channels * float_bytes);
  layout.hidden = place(shape.hidden * float_bytes);
  layout.coefficients = place(planes * static_cast<std::int64_t>(sizeof(Coefficient)));
  layout.partials = place((planes > threads / 32 ? planes : threads / 32) * float_bytes);

  constexpr std::int64_t kMostWeights = 32 * 1024;
  const std::int64_t numbers = shape.hidden * (shape.channels + 1) + 2 * planes * (shape.hidden + 1);
  const std::int64_t weights = numbers * shape.element_bytes;
  if (weights <= kMostWeights && end + weights <= device.shared_bytes) {
    layout.weights = place(weights);
  }
  // Half of a processor's shared memory leaves room for a second block, whose loads overlap this one's arithmetic. The
  // processor has what a block can have at most and 1 KB, and each block takes 1 KB beside its own.
  constexpr std::int64_t kReserved = 1024;
  if (end + slice <= (device.shared_bytes - kReserved) / 2) {
    layout.shortcut = place(slice);
  }
  layout.bytes = end;
  return layout;
}

}  // namespace detail

constexpr int kMostBlocks = 8;  // of a cluster, that every device with clusters grants

// One kernel with so many blocks to a sample and so many threads to a block, 0 for as many as suit it; not fused where
// that has no room on the device.
inline TailPlan plan_fused(const TailShape& shape, const DeviceLimits& device, int cluster, int threads = 0) {
  constexpr std::int64_t kMostElements = 1 << 24;  // beyond any shared memory; keeps the products below in range
  if (shape.channels > kMostElements || shape.hidden > kMostElements ||
      shape.positions > kMostElements / shape.channels || cluster > shape.channels ||
      cluster > (device.clusters ? kMostBlocks : 1)) {
    return {};
  }
  const std::int64_t planes = (shape.channels + cluster - 1) / cluster;
  const std::int32_t width = kVectorBytes / shape.element_bytes;
  // One more for a slice that begins within a vector.
  const std::int64_t vectors = (planes * shape.positions + width - 1) / width + 1;
  if (threads == 0) {
    constexpr int kLeastThreads = 128;
    threads = vectors > 4096 ? 1024 : power_of_two_from((vectors + 1) / 2, 512);
    threads = threads < kLeastThreads ? kLeastThreads : threads;
  }
  const TailLayout layout = detail::tail_layout(shape, device, cluster, threads, vectors);
  return layout.bytes <= device.shared_bytes ? TailPlan{true, cluster, threads, layout} : TailPlan{};
}

// The rule by which samples are spread over several blocks, and the number of threads, are reasoned, not yet measured:
// `benchmarks/native_gpu.py --part plans` compares them with others.
inline TailPlan plan_tail(const TailShape& shape, const DeviceLimits& device) {
  constexpr std::int64_t kLeastElements = 2048;  // of a block worth a cluster's barrier
  // Bytes of W1, which each block of a cluster reads whole, from the second-level cache. A block that fills its shared
  // memory moves some 700 KB to and from memory, which is two to three times slower: up to here W1 adds about a seventh
  // to its time. Far beyond, as in ResNet-50's last stage with 2 MB, W1 would take most of it, and three kernels, which
  // read W1 once for a sample, cost one more reading of A. Reasoned, not yet measured.
  constexpr std::int64_t kMostRepeated = 256 * 1024;
  const std::int64_t most = device.clusters ? kMostBlocks : 1;
  if (shape.hidden > kMostRepeated / shape.element_bytes / shape.channels ||
      shape.positions > std::numeric_limits<std::int64_t>::max() / shape.channels) {
    return {};
  }
  const std::int64_t sample = shape.channels * shape.positions;
  const auto spread = [&](std::int64_t cluster) {
    return cluster <= shape.channels && shape.batch * cluster <= device.processors &&
           cluster * kLeastElements <= sample;
  };
  int cluster = 1;
  while (2 * cluster <= most && spread(2 * cluster)) {
    cluster *= 2;
  }
  for (; cluster <= most && cluster <= shape.channels; cluster *= 2) {
    const TailPlan plan = plan_fused(shape, device, cluster);
    if (plan.fused) {
      return plan;
    }
  }
  return {};
}

}  // namespace rc
