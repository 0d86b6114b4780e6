// Both ways to launch the whole tail of a residual block.

#include <type_traits>
#include <utility>

#include "calibration_launch.h"
#include "rc/cuda.h"
#include "tail.h"
#include "tail_steps.h"

namespace rc {
namespace {

constexpr int kMostThreads = 1024;
constexpr std::int64_t kMostHidden = 48 * 1024 / sizeof(float);  // that the coefficients' kernel keeps

template <typename T>
__global__ void __launch_bounds__(kMostThreads) tail_kernel(TailTensors<T> tensors, TailPlan plan) {
  extern __shared__ __align__(kVectorBytes) unsigned char shared[];
  tail_block(DeviceContext{}, tensors, plan, shared);
}

template <typename T>
__global__ void __launch_bounds__(kMeanThreads, kResidentBlocks<T>)
    mean_kernel(const T* a, Vectors vectors, std::int64_t positions, std::int64_t planes, float* means) {
  __shared__ float partials[kMeanThreads / 32];
  mean_block(DeviceContext{}, a, vectors, positions, planes, partials, means);
}

template <typename T>
__global__ void __launch_bounds__(kMostThreads)
    coefficients_kernel(TailTensors<T> tensors, const float* means, Coefficient* coefficients) {
  extern __shared__ float hidden[];
  coefficients_block(DeviceContext{}, tensors, means, hidden, coefficients);
}

// Three kernels; the workspace holds the means and then the coefficients.
template <typename T>
rc_status launch_steps(const rc_tail& operands, const TailTensors<T>& tensors, const DeviceLimits& device,
                       void* stream) {
  const std::int64_t planes = operands.batch * operands.channels;
  const Vectors vectors = vectors_of(planes * operands.positions, sizeof(T), tensors.a);
  auto* const means = static_cast<float*>(operands.workspace);
  auto* const coefficients = reinterpret_cast<Coefficient*>(means + planes);
  const int of_block = planes_of_block(operands.positions, kMeanThreads);
  rc_status status =
      launch("CalibratedTail (means)", mean_kernel<T>, {(planes + of_block - 1) / of_block, kMeanThreads}, stream,
             tensors.a, vectors, operands.positions, planes, means);
  if (status == RC_OK) {
    const int threads = power_of_two_from(32 * operands.channels, kMostThreads);
    const std::int64_t hidden_bytes = operands.hidden * static_cast<std::int64_t>(sizeof(float));
    status = launch("CalibratedTail (coefficients)", coefficients_kernel<T>, {operands.batch, threads, hidden_bytes},
                    stream, tensors, means, coefficients);
  }
  if (status == RC_OK) {
    status = launch_calibration<T, true>("CalibratedTail", tensors.a, tensors.shortcut, tensors.y, planes,
                                         operands.positions, Computed{coefficients}, device, stream);
  }
  return status;
}

// Clusters are to be had where the device has them and the kernel that it would run was compiled for such devices: code
// that came as an older one's PTX has no cluster barriers.
template <typename T>
rc_status prepare(DeviceLimits* device) {
  constexpr int kFirstWithClusters = 90;
  rc_status status = read_device(device);
  if (status == RC_OK && device->clusters) {
    cudaFuncAttributes attributes = {};
    status = checked(cudaFuncGetAttributes(&attributes, tail_kernel<T>), "reading the kernel's attributes");
    device->clusters = attributes.ptxVersion >= kFirstWithClusters;
  }
  return status;
}

template <typename T>
rc_status prepared(DeviceLimits* device) {
  static PerDevice<DeviceLimits> known;
  return known.get(device, prepare<T>);
}

// Lets the kernel have more than the 48 KB of shared memory that all kernels can: as much as a block can have at all.
// The permission belongs to kernel and context, so that one of as much as this launch needs would be taken back by
// another thread's smaller launch before this one begins, and a permission remembered is not another context's.
template <typename T>
rc_status permit_shared_memory(std::int64_t wanted, const DeviceLimits& device) {
  constexpr std::int64_t kAlways = 48 * 1024;
  if (wanted <= kAlways) {
    return RC_OK;
  }
  return checked(cudaFuncSetAttribute(tail_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(device.shared_bytes)),
                 "granting shared memory to the kernel");
}

// What rc_cuda_set_tail_plan() has asked this thread for in the rules' place; 0 blocks are no wish.
struct Wish {
  int cluster;
  int threads;
};
thread_local Wish wish = {};

rc_status plan(const TailShape& shape, const DeviceLimits& device, TailPlan* found) {
  if (wish.cluster == 0) {
    *found = plan_tail(shape, device);
    return RC_OK;
  }
  *found = wish.cluster > 0 ? plan_fused(shape, device, wish.cluster, wish.threads) : TailPlan{};
  return found->fused == (wish.cluster > 0)
             ? RC_OK
             : fail(RC_UNSUPPORTED, "%d blocks to a sample have no room on this device", wish.cluster);
}

template <typename T>
rc_status launch_tail(const rc_tail& operands, void* stream) {
  DeviceLimits device = {};
  rc_status status = prepared<T>(&device);
  if (status != RC_OK) {
    return status;
  }
  const auto* const a = static_cast<const T*>(operands.a);
  const auto* const shortcut = static_cast<const T*>(operands.shortcut);
  auto* const y = static_cast<T*>(operands.y);
  const bool aligned =
      vectors_of(1, sizeof(T), a, static_cast<const void*>(shortcut), static_cast<const void*>(y)).aligned;
  const TailTensors<T> tensors = {a,
                                  shortcut,
                                  static_cast<const T*>(operands.w1),
                                  static_cast<const T*>(operands.b1),
                                  static_cast<const T*>(operands.w2),
                                  static_cast<const T*>(operands.b2),
                                  y,
                                  operands.positions,
                                  static_cast<std::int32_t>(operands.channels),
                                  static_cast<std::int32_t>(operands.hidden),
                                  operands.epsilon,
                                  aligned};
  const TailShape shape = {operands.batch, operands.channels, operands.positions, operands.hidden, sizeof(T)};
  TailPlan found = {};
  status = plan(shape, device, &found);
  if (status == RC_OK && !found.fused) {
    return launch_steps(operands, tensors, device, stream);
  }
  if (status == RC_OK) {
    status = permit_shared_memory<T>(found.layout.bytes, device);
  }
  if (status != RC_OK) {
    return status;
  }
  const Geometry geometry = {operands.batch * found.cluster, found.threads, found.layout.bytes, found.cluster};
  return launch("CalibratedTail", tail_kernel<T>, geometry, stream, tensors, found);
}

rc_status check(const rc_tail* operands, std::int64_t* count) {
  rc_status status = check_calibrated(operands, count);
  if (status != RC_OK || *count == 0) {
    return status;
  }
  if (operands->hidden < 1) {
    return fail(RC_INVALID_ARGUMENT, "the hidden layer has %lld units", static_cast<long long>(operands->hidden));
  }
  if (operands->hidden > kMostHidden || operands->channels > std::numeric_limits<std::int32_t>::max()) {
    return fail(RC_UNSUPPORTED, "%lld channels and %lld hidden units; at most 2^31 - 1 and %lld can be computed",
                static_cast<long long>(operands->channels), static_cast<long long>(operands->hidden),
                static_cast<long long>(kMostHidden));
  }
  for (const auto& [name, address] : {std::pair{"A", operands->a},
                                      {"Shortcut", operands->shortcut},
                                      {"W1", operands->w1},
                                      {"B1", operands->b1},
                                      {"W2", operands->w2},
                                      {"B2", operands->b2},
                                      {"Y", static_cast<const void*>(operands->y)}}) {
    if (status == RC_OK) {
      status = check_address(name, address, operands->type);
    }
  }
  return status != RC_OK ? status : check_address("the workspace", operands->workspace, RC_FLOAT32);
}

}  // namespace
}  // namespace rc

extern "C" size_t rc_cuda_calibrated_tail_workspace(int64_t batch, int64_t channels) {
  const std::int64_t bytes = rc::product(batch, channels, sizeof(float) + sizeof(rc::Coefficient));
  return bytes < 0 ? 0 : static_cast<size_t>(bytes);
}

extern "C" rc_status rc_cuda_set_tail_plan(int cluster, int threads) {
  if (cluster < -1 || cluster > rc::kMostBlocks || threads < 0 || threads > rc::kMostThreads || threads % 32 != 0) {
    return rc::fail(RC_INVALID_ARGUMENT, "%d blocks of %d threads are no plan", cluster, threads);
  }
  rc::wish = {cluster, threads};
  return RC_OK;
}

extern "C" rc_status rc_cuda_calibrated_tail(const rc_tail* operands, void* stream) {
  std::int64_t count = 0;
  const rc_status status = rc::check(operands, &count);
  if (status != RC_OK || count == 0) {
    return status;
  }
  return rc::with_type(operands->type, [&](auto* tag) {
    return rc::launch_tail<std::remove_pointer_t<decltype(tag)>>(*operands, stream);
  });
}
