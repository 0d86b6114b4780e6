// What the C API refuses, and that a refusal writes nothing.

#include <cmath>

#include "fixture.h"

namespace rc::test {
namespace {

constexpr float kUntouched = 7.0F;

class Arguments : public CpuTest {
 protected:
  float x_[8] = {};
  float y_[8] = {kUntouched, kUntouched, kUntouched, kUntouched, kUntouched, kUntouched, kUntouched, kUntouched};
  rc_extent extent_{1, 2, 4};

  void TearDown() override {
    for (const float value : y_) {
      EXPECT_EQ(value, kUntouched);
    }
  }

  rc_status residual(rc_extent extent, float epsilon, const void* shortcut) {
    return rc_cpu_calibrated_residual(RC_FLOAT32, x_, x_, x_, shortcut, y_, extent, epsilon, nullptr);
  }
};

TEST_F(Arguments, GcluRefuses) {
  EXPECT_EQ(rc_cpu_gclu(RC_FLOAT32, RC_NONE, nullptr, y_, 8, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(RC_FLOAT32, RC_NONE, x_, nullptr, 8, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(RC_FLOAT32, RC_NONE, x_, y_, -1, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(static_cast<rc_dtype>(3), RC_NONE, x_, y_, 8, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(RC_FLOAT32, static_cast<rc_approximation>(3), x_, y_, 8, nullptr), RC_INVALID_ARGUMENT);
}

TEST_F(Arguments, CalibrationRefuses) {
  EXPECT_EQ(residual({-1, 2, 4}, 1e-5F, x_), RC_INVALID_ARGUMENT);
  EXPECT_EQ(residual({INT64_MAX, 2, 4}, 1e-5F, x_), RC_INVALID_ARGUMENT);
  for (const float epsilon : {0.0F, -0.0F, -1e-5F, INFINITY, NAN}) {
    EXPECT_EQ(residual(extent_, epsilon, x_), RC_INVALID_ARGUMENT) << epsilon;
  }
  EXPECT_EQ(residual(extent_, 1e-5F, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_response_calibration(RC_FLOAT32, x_, nullptr, x_, y_, extent_, 1e-5F, nullptr), RC_INVALID_ARGUMENT);
}

TEST_F(Arguments, TailRefuses) {
  const rc_perceptron whole{x_, x_, x_, x_, 1};
  const rc_perceptron negative{x_, x_, x_, x_, -1};
  const rc_perceptron missing{x_, nullptr, x_, x_, 1};
  float workspace[16];
  const auto tail = [&](const rc_perceptron& perceptron, float* space, const void* shortcut, float epsilon = 1e-5F,
                        int64_t block = 1) {
    return rc_cpu_calibrated_tail(RC_FLOAT32, x_, shortcut, perceptron, y_, extent_, block, epsilon, space, nullptr);
  };
  EXPECT_EQ(tail(whole, workspace, x_, 0.0F), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail(whole, workspace, x_, INFINITY), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail(negative, workspace, x_), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail(missing, workspace, x_), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail(whole, nullptr, x_), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail(whole, workspace, nullptr), RC_INVALID_ARGUMENT);
  for (const int64_t block : {-8, 0, 2, 8, 16, 32}) {  // of these 8 and 16 are known, but two channels do not fill them
    EXPECT_EQ(tail(whole, workspace, x_, 1e-5F, block), RC_INVALID_ARGUMENT);
  }
}

TEST_F(Arguments, EmptyNeedsNoPointers) {
  EXPECT_EQ(rc_cpu_gclu(RC_FLOAT32, RC_NONE, nullptr, nullptr, 0, nullptr), RC_OK);
  EXPECT_EQ(rc_cpu_response_calibration(RC_FLOAT32, nullptr, nullptr, nullptr, nullptr, {0, 2, 4}, 1e-5F, nullptr),
            RC_OK);
  for (const rc_extent& empty : {rc_extent{0, 2, 4}, rc_extent{2, 0, 4}, rc_extent{2, 2, 0}}) {
    EXPECT_EQ(rc_cpu_calibrated_tail(RC_FLOAT32, nullptr, nullptr, {}, nullptr, empty, 1, 1e-5F, nullptr, nullptr),
              RC_OK);
  }
}

}  // namespace
}  // namespace rc::test
