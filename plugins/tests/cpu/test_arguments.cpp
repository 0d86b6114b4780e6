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
  float workspace_[16] = {};

  void TearDown() override {
    for (const float value : y_) {
      EXPECT_EQ(value, kUntouched);
    }
  }

  rc_calibration calibration() { return {x_, x_, x_, y_, 1, 2, 4, 1e-5F, RC_FLOAT32}; }
  rc_tail tail() { return {x_, x_, x_, x_, x_, x_, y_, workspace_, 1, 2, 4, 1, 1e-5F, RC_FLOAT32}; }

  // The status for operands with one of them changed.
  template <class Value>
  rc_status calibration_with(Value rc_calibration::* member, Value value) {
    rc_calibration operands = calibration();
    operands.*member = value;
    return rc_cpu_calibrated_residual(&operands, x_, nullptr);
  }

  template <class Value>
  rc_status tail_with(Value rc_tail::* member, Value value) {
    rc_tail operands = tail();
    operands.*member = value;
    return rc_cpu_calibrated_tail(&operands, 1, nullptr);
  }
};

TEST_F(Arguments, GcluRefuses) {
  EXPECT_EQ(rc_cpu_gclu(nullptr, y_, 8, RC_FLOAT32, RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(x_, nullptr, 8, RC_FLOAT32, RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(x_, y_, -1, RC_FLOAT32, RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(x_, y_, 8, static_cast<rc_type>(3), RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_gclu(x_, y_, 8, RC_FLOAT32, static_cast<rc_approximation>(3), nullptr), RC_INVALID_ARGUMENT);
}

TEST_F(Arguments, CalibrationRefuses) {
  const rc_calibration whole = calibration();
  EXPECT_EQ(rc_cpu_response_calibration(nullptr, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_calibrated_residual(nullptr, x_, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cpu_calibrated_residual(&whole, nullptr, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(calibration_with<std::int64_t>(&rc_calibration::batch, -1), RC_INVALID_ARGUMENT);
  EXPECT_EQ(calibration_with<std::int64_t>(&rc_calibration::batch, INT64_MAX), RC_INVALID_ARGUMENT);
  for (const float epsilon : {0.0F, -0.0F, -1e-5F, INFINITY, NAN}) {
    EXPECT_EQ(calibration_with(&rc_calibration::epsilon, epsilon), RC_INVALID_ARGUMENT) << epsilon;
  }
  EXPECT_EQ(calibration_with<const void*>(&rc_calibration::mu, nullptr), RC_INVALID_ARGUMENT);
}

TEST_F(Arguments, TailRefuses) {
  const rc_tail whole = tail();
  EXPECT_EQ(rc_cpu_calibrated_tail(nullptr, 1, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail_with(&rc_tail::epsilon, 0.0F), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail_with(&rc_tail::epsilon, INFINITY), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail_with<std::int64_t>(&rc_tail::hidden, -1), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail_with<const void*>(&rc_tail::b1, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail_with<void*>(&rc_tail::workspace, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(tail_with<const void*>(&rc_tail::shortcut, nullptr), RC_INVALID_ARGUMENT);
  for (const int64_t block : {-8, 0, 2, 8, 16, 32}) {  // of these 8 and 16 are known, but two channels do not fill them
    EXPECT_EQ(rc_cpu_calibrated_tail(&whole, block, nullptr), RC_INVALID_ARGUMENT);
  }
}

TEST_F(Arguments, EmptyNeedsNoPointers) {
  EXPECT_EQ(rc_cpu_gclu(nullptr, nullptr, 0, RC_FLOAT32, RC_NONE, nullptr), RC_OK);
  for (const Extent& empty : {Extent{0, 2, 4}, Extent{2, 0, 4}, Extent{2, 2, 0}}) {
    const rc_calibration calibration = {nullptr,        nullptr,         nullptr, nullptr,   empty.batch,
                                        empty.channels, empty.positions, 1e-5F,   RC_FLOAT32};
    EXPECT_EQ(rc_cpu_response_calibration(&calibration, nullptr), RC_OK);
    EXPECT_EQ(rc_cpu_calibrated_residual(&calibration, nullptr, nullptr), RC_OK);
    rc_tail tail = {};
    tail.batch = empty.batch;
    tail.channels = empty.channels;
    tail.positions = empty.positions;
    tail.epsilon = 1e-5F;
    EXPECT_EQ(rc_cpu_calibrated_tail(&tail, 1, nullptr), RC_OK);
  }
}

}  // namespace
}  // namespace rc::test
