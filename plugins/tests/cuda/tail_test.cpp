// Both ways to compute the whole tail of a residual block, against float64.

#include "calibration.h"
#include "emulation.h"
#include "tail_operands.h"
#include "tail_steps.h"

namespace rc::test {
namespace {

template <typename T>
void check_fused(const Shape& shape, const DeviceLimits& device, int cluster, int threads = 0) {
  Operands<T> operands(shape);
  TailPlan plan = plan_tail({shape.batch, shape.channels, shape.positions, shape.hidden, sizeof(T)}, device);
  ASSERT_TRUE(plan.fused);
  ASSERT_EQ(plan.cluster, cluster);
  plan.threads = threads != 0 ? threads : plan.threads;  // fewer: each takes a turn more
  const TailTensors<T> tensors = operands.tensors();
  run_grid(shape.batch * plan.cluster, plan.cluster, plan.threads, plan.layout.bytes,
           [&](const HostContext& context, unsigned char* shared) { tail_block(context, tensors, plan, shared); });
  operands.check();
}

template <typename T>
void check_steps(const Shape& shape) {
  constexpr int kThreads = 64;
  Operands<T> operands(shape);
  const TailTensors<T> tensors = operands.tensors();
  const std::int64_t planes = shape.batch * shape.channels;
  Tensor<float> means(planes);
  std::vector<Coefficient> coefficients(static_cast<std::size_t>(planes), Coefficient{NAN, NAN});
  const Vectors of_a = vectors_of(operands.a.count(), sizeof(T), operands.a.data());
  const int of_block = planes_of_block(shape.positions, kThreads);
  run_grid((planes + of_block - 1) / of_block, 1, kThreads, kThreads / 32 * 4,
           [&](const HostContext& context, unsigned char* shared) {
             mean_block(context, tensors.a, of_a, shape.positions, planes, reinterpret_cast<float*>(shared),
                        means.data());
           });
  ASSERT_TRUE(means.guards_hold());
  run_grid(shape.batch, 1, kThreads, shape.hidden * 4, [&](const HostContext& context, unsigned char* shared) {
    coefficients_block(context, tensors, means.data(), reinterpret_cast<float*>(shared), coefficients.data());
  });
  const Vectors vectors = vectors_of(operands.a.count(), sizeof(T), tensors.a,
                                     static_cast<const void*>(tensors.shortcut), static_cast<const void*>(tensors.y));
  const std::int64_t length = calibration_block_vectors(vectors, shape.positions, 1);
  const CalibrationTensors<T> applied = {tensors.a, tensors.shortcut, tensors.y, vectors, length, shape.positions};
  run_grid((vectors.total + length - 1) / length, 1, kThreads, kTablePlanes * sizeof(Coefficient),
           [&](const HostContext& context, unsigned char* shared) {
             calibrate_block<T, true>(context, applied, Computed{coefficients.data()},
                                      reinterpret_cast<Coefficient*>(shared));
           });
  operands.check();
}

constexpr DeviceLimits kMany = {1000, 227 * 1024, true};
constexpr DeviceLimits kOne = {1, 227 * 1024, true};
constexpr DeviceLimits kTight = {1, 10 * 1024, false};  // neither weights nor shortcut in shared memory

template <typename T>
class Tail : public ::testing::Test {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(Tail, Types);

TYPED_TEST(Tail, OneBlockForASample) {
  for (const Shape& shape : {Shape{1, 1, 1, 1},
                             {3, 2, 3, 1},
                             {2, 3, 49, 2},
                             {2, 5, 257, 3},
                             {1, 64, 64, 16},
                             {2, 33, 7, 40},
                             {1, 300, 1, 9}}) {
    check_fused<TypeParam>(shape, kOne, 1, 64);
  }
}

TYPED_TEST(Tail, AClusterForASample) {
  check_fused<TypeParam>({1, 16, 1024, 4}, kMany, 8, 64);
  check_fused<TypeParam>({2, 19, 259, 5}, kMany, 2, 96);
  check_fused<TypeParam>({2, 11, 401, 5}, kMany, 2, 32);
  check_fused<TypeParam>({1, 9, 2049, 3}, kMany, 8, 32);
}

TYPED_TEST(Tail, AnyAlignment) {
  for (int shift = 0; shift < kVectorBytes / static_cast<int>(sizeof(TypeParam)); ++shift) {
    check_fused<TypeParam>({2, 5, 49, 2, shift, shift}, kOne, 1, 32);
    check_fused<TypeParam>({2, 5, 49, 2, shift, 1}, kOne, 1, 32);
  }
}

TYPED_TEST(Tail, WithTheLeastSharedMemory) { check_fused<TypeParam>({2, 24, 49, 150}, kTight, 1, 64); }

TYPED_TEST(Tail, WithTheThreadsItIsLaunchedWith) {
  check_fused<TypeParam>({2, 32, 256, 8}, kOne, 1);
  check_fused<TypeParam>({1, 32, 256, 8}, kMany, 4);
}

TYPED_TEST(Tail, ThreeKernels) {
  for (const Shape& shape :
       {Shape{1, 1, 1, 1}, {3, 5, 49, 2}, {2, 67, 3, 33}, {1, 3, 5000, 2, 1, 1}, {2, 2, 4099, 1, 0, 1}}) {
    check_steps<TypeParam>(shape);
  }
}

}  // namespace
}  // namespace rc::test
