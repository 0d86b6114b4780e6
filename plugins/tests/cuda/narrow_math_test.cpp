// Every half and every bfloat16 through narrow_math.h, against float64.

#include "narrow_math.h"

#include "tensors.h"

namespace rc::test {
namespace {

template <typename T>
class NarrowMath : public ::testing::Test {
 protected:
  // every(x) for each of the type's 65,536 numbers.
  template <typename Function>
  static void every(const Function& function) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
      const auto word = static_cast<std::uint16_t>(bits);
      T number;
      std::memcpy(static_cast<void*>(&number), &word, sizeof number);
      function(to_float(number));
    }
  }
};

using Types = ::testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(NarrowMath, Types);

template <typename T, rc_approximation kForm>
void check(float x) {
  const double exact = exact_gclu(static_cast<double>(x), kForm);
  const double found = static_cast<double>(activate<T, kForm>(x));
  const double absolute = std::isfinite(x) ? 6 * 0x1p-24 * std::abs(static_cast<double>(x)) : 0.0;
  ASSERT_TRUE(near(found, exact, absolute + 0x1p-110)) << x;
  ASSERT_TRUE(near(found, exact, 0x1p-16 * std::abs(exact) + 0x1p-110)) << x;
}

TYPED_TEST(NarrowMath, GcluOfEveryNumber) {
  this->every([](float x) {
    check<TypeParam, RC_NONE>(x);
    check<TypeParam, RC_SIGMOID>(x);
    check<TypeParam, RC_TANH>(x);
  });
}

TYPED_TEST(NarrowMath, CalibrationOfEveryNumber) {
  for (const auto& [mu, log_var] :
       {std::pair{0.0F, 0.0F}, {0.7F, -2.4F}, {-2.0F, 6.4F}, {3.0F, -200.0F}, {1.0F, 200.0F}}) {
    const Coefficient c = coefficient(mu, log_var, 1e-5F);
    this->every([&, mean = mu](float a) {
      const double slope = static_cast<double>(c.slope);
      const double wide = static_cast<double>(a);
      const double sum = std::isinf(a) ? wide : wide + wide * lower_tail((wide - static_cast<double>(mean)) * slope);
      const double exact = std::abs(sum) > static_cast<double>(kLargest) ? std::copysign(HUGE_VAL, sum) : sum;
      const double allowed = std::isfinite(a) ? 6 * 0x1p-24 * std::abs(wide) + 0x1p-148 : 0.0;
      ASSERT_TRUE(near(static_cast<double>(calibrate<TypeParam>(a, c)), exact, allowed)) << a << " " << mean;
    });
  }
}

TEST(Coefficient, IsFiniteForEveryStandardDeviation) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(coefficient(0, -infinity, 1e-45F).slope, kLargest);
  EXPECT_EQ(coefficient(0, infinity, 1e-5F).slope, 0.0F);
  EXPECT_TRUE(std::isnan(coefficient(0, std::nanf(""), 1e-5F).slope));
}

}  // namespace
}  // namespace rc::test
