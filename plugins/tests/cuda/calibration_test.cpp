#include "calibration.h"

#include "emulation.h"
#include "tensors.h"

namespace rc::test {
namespace {

template <typename T>
class Calibration : public ::testing::Test {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(Calibration, Types);

struct Case {
  std::int64_t planes;
  std::int64_t positions;
  int shift_a = 0;
  int shift_shortcut = 0;
  int shift_y = 0;
};

template <typename T, bool kResidual>
void check(const Case& shape) {
  constexpr int kThreads = 32;
  constexpr float kEpsilon = 1e-5F;
  const std::int64_t count = shape.planes * shape.positions;
  Tensor<T> a(count, shape.shift_a);
  Tensor<T> shortcut(count, shape.shift_shortcut);
  Tensor<T> y(count, shape.shift_y);
  Tensor<T> mu(shape.planes);
  Tensor<T> log_var(shape.planes);
  a.fill_normal(1, 2.0);
  shortcut.fill_normal(2, 2.0);
  mu.fill_normal(3, 1.0);
  log_var.fill_normal(4, 2.0);
  const double infinity = std::numeric_limits<double>::infinity();
  a.set(0, infinity);
  a.set(count / 2, -infinity);
  a.set(count - 1, std::nan(""));
  log_var.set(shape.planes / 3, -infinity);  // std = 0
  log_var.set(shape.planes / 2, 80.0);       // far beyond every response
  mu.set(shape.planes / 4, std::nan(""));

  const void* const other = kResidual ? shortcut.data() : a.data();
  const Vectors vectors = vectors_of(count, sizeof(T), a.data(), other, static_cast<const void*>(y.data()));
  const std::int64_t wanted = calibration_block_vectors(vectors, shape.positions, 1);
  const CalibrationTensors<T> tensors = {a.data(), shortcut.data(), y.data(), vectors, wanted, shape.positions};
  const FromLogVar<T> source = {mu.data(), log_var.data(), kEpsilon};
  const std::int64_t blocks = (vectors.total + wanted - 1) / wanted;
  run_grid(blocks, 1, kThreads, kTablePlanes * sizeof(Coefficient),
           [&](const HostContext& context, unsigned char* shared) {
             calibrate_block<T, kResidual>(context, tensors, source, reinterpret_cast<Coefficient*>(shared));
           });
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t plane = i / shape.positions;
    double exact = exact_calibration(a[i], mu[plane], log_var[plane], static_cast<double>(kEpsilon));
    double argument = std::isfinite(a[i]) ? std::abs(a[i]) : 0.0;
    if (kResidual) {
      exact += shortcut[i];
      argument += std::abs(shortcut[i]);
      exact = exact < 0.0 ? 0.0 : exact;
    }
    ASSERT_TRUE(near(y[i], exact, bound<T>(argument, exact, 8)))
        << i << ", plane " << plane << " of " << shape.positions;
  }
  ASSERT_TRUE(y.guards_hold());
}

TYPED_TEST(Calibration, PlanesOfOddSizes) {
  for (const Case& shape : {Case{1, 1},
                            {3, 1},
                            {5, 3},
                            {4099, 1},
                            {700, 2},
                            {300, 7},
                            {130, 8},
                            {67, 49},
                            {9, 256},
                            {3, 257 * 13},
                            {1, 40'001}}) {
    check<TypeParam, false>(shape);
    check<TypeParam, true>(shape);
  }
}

TYPED_TEST(Calibration, AnyAlignment) {
  for (int shift = 0; shift < kVectorBytes / static_cast<int>(sizeof(TypeParam)); ++shift) {
    check<TypeParam, true>({65, 49, shift, shift, shift});
    check<TypeParam, true>({65, 49, shift, 1, 0});
    check<TypeParam, false>({65, 49, shift, 0, shift});
  }
}

TYPED_TEST(Calibration, SeveralRoundsOfABlock) {
  // On one processor a block takes four rounds of 256 threads, and so many more of 32.
  check<TypeParam, true>({257, 259});
}

}  // namespace
}  // namespace rc::test
