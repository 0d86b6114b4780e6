// The C interface's validation: what it refuses, in which words, and that it never needs a device for that.

#include <cuda_runtime_api.h>

#include <limits>
#include <string>

#include "gtest/gtest.h"
#include "rc/cuda.h"

namespace {

alignas(16) unsigned char memory[256];

std::string message() { return rc_cuda_last_error(); }

rc_calibration calibration() { return {memory, memory, memory, memory, 1, 1, 1, 1e-5F, RC_FLOAT32}; }

rc_tail tail() {
  return {memory, memory, memory, memory, memory, memory, memory, memory, 1, 1, 1, 1, 1e-5F, RC_FLOAT32};
}

TEST(Interface, EmptyTensorsNeedNoMemoryAndNoDevice) {
  EXPECT_EQ(rc_cuda_gclu(nullptr, nullptr, 0, RC_FLOAT16, RC_TANH, nullptr), RC_OK);
  rc_calibration operands = {nullptr, nullptr, nullptr, nullptr, 0, 3, 5, 1e-5F, RC_FLOAT32};
  EXPECT_EQ(rc_cuda_response_calibration(&operands, nullptr), RC_OK);
  EXPECT_EQ(rc_cuda_calibrated_residual(&operands, nullptr, nullptr), RC_OK);
  rc_tail all = {};
  all.channels = 4;
  all.epsilon = 1e-5F;
  EXPECT_EQ(rc_cuda_calibrated_tail(&all, nullptr), RC_OK);
}

TEST(Interface, RefusesNullMisplacedAndNegative) {
  EXPECT_EQ(rc_cuda_gclu(nullptr, memory, 1, RC_FLOAT32, RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(message(), "X is null");
  EXPECT_EQ(rc_cuda_gclu(memory, memory + 1, 1, RC_FLOAT16, RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_NE(message().find("Y, 0x"), std::string::npos) << message();
  EXPECT_EQ(rc_cuda_gclu(memory, memory, -1, RC_FLOAT16, RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cuda_response_calibration(nullptr, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cuda_calibrated_tail(nullptr, nullptr), RC_INVALID_ARGUMENT);
  rc_calibration operands = calibration();
  EXPECT_EQ(rc_cuda_calibrated_residual(&operands, nullptr, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(message(), "Shortcut is null");
  operands.mu = nullptr;
  EXPECT_EQ(rc_cuda_response_calibration(&operands, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(message(), "Mu is null");
}

TEST(Interface, RefusesSizesBeyondMemoryWithoutOverflow) {
  rc_calibration operands = calibration();
  operands.batch = operands.channels = operands.positions = std::int64_t{1} << 32;
  EXPECT_EQ(rc_cuda_response_calibration(&operands, nullptr), RC_INVALID_ARGUMENT);
  operands.batch = -1;
  operands.channels = -1;
  operands.positions = 1;
  EXPECT_EQ(rc_cuda_response_calibration(&operands, nullptr), RC_INVALID_ARGUMENT);
}

TEST(Interface, RefusesUnknownEnumerators) {
  EXPECT_EQ(rc_cuda_gclu(memory, memory, 1, static_cast<rc_type>(3), RC_NONE, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(rc_cuda_gclu(memory, memory, 1, RC_FLOAT32, static_cast<rc_approximation>(3), nullptr),
            RC_INVALID_ARGUMENT);
}

TEST(Interface, RefusesEpsilonsThatAreNotPositive) {
  for (const float epsilon :
       {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    rc_calibration operands = calibration();
    operands.epsilon = epsilon;
    EXPECT_EQ(rc_cuda_response_calibration(&operands, nullptr), RC_INVALID_ARGUMENT) << epsilon;
    rc_tail all = tail();
    all.epsilon = epsilon;
    EXPECT_EQ(rc_cuda_calibrated_tail(&all, nullptr), RC_INVALID_ARGUMENT) << epsilon;
  }
}

TEST(Interface, RefusesTailsThatCannotBe) {
  rc_tail all = tail();
  all.hidden = 0;
  EXPECT_EQ(rc_cuda_calibrated_tail(&all, nullptr), RC_INVALID_ARGUMENT);
  all = tail();
  all.hidden = 1 << 20;
  EXPECT_EQ(rc_cuda_calibrated_tail(&all, nullptr), RC_UNSUPPORTED);
  all = tail();
  all.workspace = nullptr;
  EXPECT_EQ(rc_cuda_calibrated_tail(&all, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(message(), "the workspace is null");
  all = tail();
  all.w2 = nullptr;
  EXPECT_EQ(rc_cuda_calibrated_tail(&all, nullptr), RC_INVALID_ARGUMENT);
  EXPECT_EQ(message(), "W2 is null");
}

TEST(Interface, WorkspaceHoldsAMeanAndTwoCoefficientsForAPlane) {
  EXPECT_EQ(rc_cuda_calibrated_tail_workspace(3, 5), 3U * 5U * 12U);
  EXPECT_EQ(rc_cuda_calibrated_tail_workspace(0, 5), 0U);
  EXPECT_EQ(rc_cuda_calibrated_tail_workspace(-1, 5), 0U);
}

TEST(Interface, WithoutADeviceTheRuntimesWordsComeBack) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) {
    GTEST_SKIP() << "there is a device";
  }
  static_cast<void>(cudaGetLastError());
  rc_calibration operands = calibration();
  rc_tail all = tail();
  EXPECT_EQ(rc_cuda_gclu(memory, memory, 8, RC_FLOAT16, RC_NONE, nullptr), RC_CUDA_ERROR);
  EXPECT_NE(message().find("GCLU: "), std::string::npos) << message();
  EXPECT_EQ(rc_cuda_response_calibration(&operands, nullptr), RC_CUDA_ERROR);
  EXPECT_EQ(rc_cuda_calibrated_residual(&operands, memory, nullptr), RC_CUDA_ERROR);
  EXPECT_EQ(rc_cuda_calibrated_tail(&all, nullptr), RC_CUDA_ERROR);
  EXPECT_NE(message().find("device's properties: "), std::string::npos) << message();
}

}  // namespace
