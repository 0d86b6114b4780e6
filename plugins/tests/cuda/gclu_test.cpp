#include "gclu.h"

#include "emulation.h"
#include "tensors.h"

namespace rc::test {
namespace {

template <typename T>
class Gclu : public ::testing::Test {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(Gclu, Types);

struct Alignment {
  int x;
  int y;
};

template <typename T, rc_approximation kForm>
void check(std::int64_t count, Alignment alignment) {
  constexpr int kThreads = 32;
  Tensor<T> x(count, alignment.x);
  Tensor<T> y(count, alignment.y);
  x.fill_normal(static_cast<unsigned>(count), 3.0);
  const double infinity = std::numeric_limits<double>::infinity();
  const double special[] = {infinity, -infinity, std::nan(""), 0.0, -0.0};
  for (std::int64_t i = 0; i < std::min<std::int64_t>(count / 2, 5); ++i) {
    x.set(count - 1 - i, special[i]);
  }
  const Vectors vectors = vectors_of(count, sizeof(T), x.data(), static_cast<const void*>(y.data()));
  const std::int64_t blocks = (vectors.total + kThreads * kGcluVectors - 1) / (kThreads * kGcluVectors);
  run_grid(blocks, 1, kThreads, 0, [&](const HostContext& context, unsigned char*) {
    gclu_thread<T, kForm>(context, x.data(), y.data(), vectors);
  });
  for (std::int64_t i = 0; i < count; ++i) {
    const double exact = exact_gclu(x[i], kForm);
    ASSERT_TRUE(near(y[i], exact, bound<T>(std::isfinite(x[i]) ? x[i] : 0.0, exact, 6))) << i << " of " << count;
  }
  ASSERT_TRUE(y.guards_hold()) << count;
}

TYPED_TEST(Gclu, OddLengthsAtEveryDistanceFrom16Bytes) {
  for (const std::int64_t count : {1, 2, 3, 7, 8, 9, 31, 127, 257, 4099}) {
    for (int shift = 0; shift < kVectorBytes / static_cast<int>(sizeof(TypeParam)); ++shift) {
      check<TypeParam, RC_NONE>(count, {shift, shift});
    }
    check<TypeParam, RC_NONE>(count, {0, 1});
    check<TypeParam, RC_NONE>(count, {3, 0});
  }
}

TYPED_TEST(Gclu, EveryForm) {
  check<TypeParam, RC_NONE>(257 * 259, {0, 0});
  check<TypeParam, RC_SIGMOID>(2049, {1, 1});
  check<TypeParam, RC_TANH>(2049, {1, 1});
}

}  // namespace
}  // namespace rc::test
