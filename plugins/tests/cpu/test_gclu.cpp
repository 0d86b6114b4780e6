// rc_cpu_gclu: 4 units in the last place from double precision, every size and type, limits, threads.

#include <cmath>
#include <tuple>

#include "fixture.h"
#include "reference.h"

namespace rc::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr rc_approximation kForms[] = {RC_NONE, RC_SIGMOID, RC_TANH};

class Gclu : public CpuTest {};

TEST_F(Gclu, WholeRangeWithinFourUlp) {
  std::vector<float> x;
  for (int i = -300000; i <= 300000; ++i) {
    x.push_back(static_cast<float>(i) * 1e-4F);
  }
  for (const rc_approximation form : kForms) {
    Guarded<float> y(x.size());
    ASSERT_EQ(rc_cpu_gclu(x.data(), y.data(), static_cast<int64_t>(x.size()), RC_FLOAT32, form, nullptr), RC_OK);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = reference::gclu(static_cast<double>(x[i]), form);
      const auto found = static_cast<double>(y[i]);
      ASSERT_LE(reference::error_in_ulp(found, exact), 4.0) << "x = " << x[i] << ", form " << form;
      if (std::fabs(x[i]) <= 14.0F) {
        ASSERT_LE(std::fabs(found - exact), form == RC_NONE ? 3e-7 : 5e-7) << "x = " << x[i] << ", form " << form;
      }
    }
  }
}

template <class T>
void expect_every_size() {
  for (const std::size_t count : {0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 65, 100, 257 * 259}) {
    const std::vector<T> x = stored<T>(normal(count + 1, 7, 3.0F));
    const std::vector<float> read = loaded(x);
    for (const rc_approximation form : kForms) {
      Guarded<T> y(count);
      const auto size = static_cast<int64_t>(count);
      ASSERT_EQ(rc_cpu_gclu(x.data() + 1, y.data(), size, TypeOf<T>::type, form, nullptr), RC_OK);
      y.expect_guards_untouched();
      for (std::size_t i = 0; i < count; ++i) {
        const double exact = reference::gclu(static_cast<double>(read[i + 1]), form);
        // 4 units of float, half a unit from rounding to T; and what is too small to be normal.
        const double allowed = (TypeOf<T>::rounding + 4 * 0x1p-23) * std::fabs(exact) + TypeOf<T>::smallest;
        ASSERT_NEAR(static_cast<double>(y[i]), exact, allowed) << count << " elements, number " << i;
      }
    }
  }
}

TEST_F(Gclu, EverySizeFloat) { expect_every_size<float>(); }
TEST_F(Gclu, EverySizeHalf) { expect_every_size<Half>(); }
TEST_F(Gclu, EverySizeBFloat16) { expect_every_size<BFloat16>(); }

template <class T>
void expect_limits() {
  const std::vector<T> x = stored<T>({kInfinity, -kInfinity, NAN, 0.0F, -0.0F, 60000.0F, -60000.0F});
  for (const rc_approximation form : kForms) {
    // In every lane: the values again and again.
    std::vector<T> many;
    for (std::size_t i = 0; i < 50; ++i) {
      many.push_back(x[i % x.size()]);
    }
    Guarded<T> y(many.size());
    ASSERT_EQ(rc_cpu_gclu(many.data(), y.data(), static_cast<int64_t>(many.size()), TypeOf<T>::type, form, nullptr),
              RC_OK);
    for (std::size_t i = 0; i < many.size(); ++i) {
      const float read = load(many[i]);
      if (std::isnan(read)) {
        ASSERT_TRUE(std::isnan(y[i]));
      } else {
        ASSERT_EQ(y[i], read > 0.0F ? read : 0.0F) << "x = " << read;
      }
    }
  }
}

TEST_F(Gclu, LimitsFloat) { expect_limits<float>(); }
TEST_F(Gclu, LimitsHalf) { expect_limits<Half>(); }
TEST_F(Gclu, LimitsBFloat16) { expect_limits<BFloat16>(); }

TEST_F(Gclu, ThreadsAndPlaceDoNotChangeIt) {
  const std::vector<float> x = normal(100003, 3, 2.0F);
  std::vector<float> alone(x.size());
  std::vector<float> in_place = x;
  Guarded<float> shared(x.size());
  const auto size = static_cast<int64_t>(x.size());
  Pool pool;
  ASSERT_EQ(rc_cpu_gclu(x.data(), alone.data(), size, RC_FLOAT32, RC_NONE, nullptr), RC_OK);
  ASSERT_EQ(rc_cpu_gclu(in_place.data(), in_place.data(), size, RC_FLOAT32, RC_NONE, nullptr), RC_OK);
  ASSERT_EQ(rc_cpu_gclu(x.data(), shared.data(), size, RC_FLOAT32, RC_NONE, pool.get()), RC_OK);
  EXPECT_GT(pool.tasks(), 3U);
  shared.expect_guards_untouched();
  EXPECT_EQ(alone, in_place);
  for (std::size_t i = 0; i < x.size(); ++i) {
    // Pieces end elsewhere than the whole, so an element can be computed by a loop's remainder: alike to 1 unit.
    ASSERT_NEAR(shared[i], alone[i], 0x1p-23F * std::fabs(alone[i])) << i;
  }
}

}  // namespace
}  // namespace rc::test
