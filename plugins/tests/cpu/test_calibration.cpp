// rc_cpu_response_calibration and rc_cpu_calibrated_residual against double precision.

#include <cmath>

#include "fixture.h"
#include "reference.h"

namespace rc::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Calibrated : public CpuTest {};

struct Case {
  Extent extent;
  float epsilon;
};

// Rows shorter than, as long as, and just past vectors of 4, 8 and 16; a plane of 257x259.
const Case kCases[] = {
    {{0, 4, 9}, 1e-5F},  {{2, 0, 9}, 1e-5F},   {{2, 3, 0}, 1e-5F},   {{1, 1, 1}, 1e-5F},        {{3, 5, 1}, 1e-5F},
    {{2, 3, 15}, 1e-5F}, {{1, 2, 16}, 1e-5F},  {{2, 7, 17}, 0.5F},   {{1, 3, 49}, 0.5F},        {{2, 2, 64}, 1e-40F},
    {{1, 5, 65}, 0.5F},  {{2, 3, 100}, 1e-5F}, {{1, 33, 130}, 1.0F}, {{1, 2, 257 * 259}, 0.1F},
};

std::size_t rows(Extent extent) { return static_cast<std::size_t>(extent.batch * extent.channels); }
std::size_t elements(Extent extent) { return rows(extent) * static_cast<std::size_t>(extent.positions); }

template <class T>
rc_calibration operands_of(const T* a, const T* mu, const T* log_var, T* y, Extent extent, float epsilon) {
  return {a, mu, log_var, y, extent.batch, extent.channels, extent.positions, epsilon, TypeOf<T>::type};
}

rc_status calibrate(const rc_calibration& operands, bool with_shortcut, const void* shortcut) {
  return with_shortcut ? rc_cpu_calibrated_residual(&operands, shortcut, nullptr)
                       : rc_cpu_response_calibration(&operands, nullptr);
}

template <class T>
void expect_all_cases(bool with_shortcut) {
  for (const Case& c : kCases) {
    const std::size_t count = elements(c.extent);
    const std::vector<T> a = stored<T>(normal(count, 1, 2.0F));
    const std::vector<T> shortcut = stored<T>(normal(count, 2, 2.0F));
    const std::vector<T> mu = stored<T>(normal(rows(c.extent), 3));
    const std::vector<T> log_var = stored<T>(normal(rows(c.extent), 4, 2.0F));
    Guarded<T> y(count);
    const auto operands = operands_of(a.data(), mu.data(), log_var.data(), y.data(), c.extent, c.epsilon);
    ASSERT_EQ(calibrate(operands, with_shortcut, shortcut.data()), RC_OK);
    y.expect_guards_untouched();
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t row = i / static_cast<std::size_t>(c.extent.positions);
      const auto response = static_cast<double>(load(a[i]));
      double exact = reference::calibrated(response, static_cast<double>(load(mu[row])),
                                           static_cast<double>(load(log_var[row])), static_cast<double>(c.epsilon));
      // 4 units for the tail and its sum, 2 for what z loses to the rounding of its slope: |z| phi(z) is below 1/4.
      double allowed = 6 * 0x1p-23 * std::fabs(response);
      if (with_shortcut) {
        exact = std::fmax(exact + static_cast<double>(load(shortcut[i])), 0.0);
        allowed += 0x1p-23 * std::fabs(exact);
      }
      allowed += TypeOf<T>::rounding * std::fabs(exact) + TypeOf<T>::smallest;
      ASSERT_NEAR(static_cast<double>(y[i]), exact, allowed)
          << c.extent.batch << 'x' << c.extent.channels << 'x' << c.extent.positions << ", element " << i;
    }
  }
}

TEST_F(Calibrated, ResponseFloat) { expect_all_cases<float>(false); }
TEST_F(Calibrated, ResponseHalf) { expect_all_cases<Half>(false); }
TEST_F(Calibrated, ResponseBFloat16) { expect_all_cases<BFloat16>(false); }
TEST_F(Calibrated, ResidualFloat) { expect_all_cases<float>(true); }
TEST_F(Calibrated, ResidualHalf) { expect_all_cases<Half>(true); }
TEST_F(Calibrated, ResidualBFloat16) { expect_all_cases<BFloat16>(true); }

// a, mu, log_var, expected A + RC(A) for epsilon 1e-5 and for one whose reciprocal is no float; NaN stands for NaN.
const float kLimits[][4] = {
    {kInfinity, 0, 0, kInfinity},
    {-kInfinity, 0, 0, -kInfinity},
    {2, 2, -kInfinity, 3},  // the standard deviation is 0, z = 0
    {2, 1, -kInfinity, 2},  // ... z is large
    {2, 1, -300, 2},
    {2, 1, kInfinity, 3},  // z = 0
    {2, 1, 300, 3},
    {2, 1e30F, 0, 2},
    {2, kInfinity, 0, 2},
    {NAN, 0, 0, NAN},
    {2, NAN, 0, NAN},
    {2, 0, NAN, NAN},
    {kInfinity, NAN, 0, NAN},
};

void expect_limits(float epsilon, bool with_shortcut) {
  for (const auto& limit : kLimits) {
    const std::vector<float> a(37, limit[0]);
    const std::vector<float> shortcut(37, 1.0F);
    std::vector<float> y(37);
    const auto operands = operands_of(a.data(), &limit[1], &limit[2], y.data(), {1, 1, 37}, epsilon);
    ASSERT_EQ(calibrate(operands, with_shortcut, shortcut.data()), RC_OK);
    const float expected = with_shortcut ? detail::relu(limit[3] + 1.0F) : limit[3];
    for (const float found : y) {
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(found)) << limit[0] << ' ' << limit[1] << ' ' << limit[2];
      } else {
        ASSERT_FLOAT_EQ(found, expected) << limit[0] << ' ' << limit[1] << ' ' << limit[2];
      }
    }
  }
}

TEST_F(Calibrated, Limits) {
  for (const float epsilon : {1e-5F, 1e-40F}) {
    expect_limits(epsilon, false);
    expect_limits(epsilon, true);
  }
}

TEST_F(Calibrated, StandardDeviationWithinTwoUlp) {
  for (int i = -170000; i <= 170000; ++i) {
    const float log_var = static_cast<float>(i) * 1e-3F;
    const double exact = std::exp(0.5 * static_cast<double>(log_var));
    ASSERT_LE(reference::error_in_ulp(static_cast<double>(standard_deviation(log_var)), exact), 2.0) << log_var;
  }
}

TEST_F(Calibrated, ThreadsDoNotChangeIt) {
  const Extent extent{3, 7, 5000};
  const std::vector<float> a = normal(elements(extent), 5);
  const std::vector<float> shortcut = normal(elements(extent), 6);
  const std::vector<float> mu = normal(rows(extent), 7);
  const std::vector<float> log_var = normal(rows(extent), 8);
  std::vector<float> alone(a.size());
  Guarded<float> shared(a.size());
  Pool pool;
  auto operands = operands_of(a.data(), mu.data(), log_var.data(), alone.data(), extent, 1e-5F);
  ASSERT_EQ(rc_cpu_calibrated_residual(&operands, shortcut.data(), nullptr), RC_OK);
  operands.y = shared.data();
  ASSERT_EQ(rc_cpu_calibrated_residual(&operands, shortcut.data(), pool.get()), RC_OK);
  EXPECT_EQ(pool.tasks(), 7U);
  shared.expect_guards_untouched();
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_NEAR(shared[i], alone[i], 0x1p-22F * (std::fabs(a[i]) + std::fabs(shortcut[i]))) << i;
  }
}

}  // namespace
}  // namespace rc::test
