// The CUDA kernels as ONNX Runtime calls them, from the operator's registration to numbers: fake_onnxruntime.h calls
// the glue, and the launchers' kernels run on the device of tests/cuda/fake_runtime.h. Neither of them can synchronise.

#include "fake_onnxruntime.h"
#include "fake_runtime.h"
#include "rc/cuda.h"
#include "tail_operands.h"

namespace rc::test {
namespace {

void* const kStream = reinterpret_cast<void*>(0x1234);
void* const kOtherStream = reinterpret_cast<void*>(0x5678);
const std::vector<std::string> kNames = {"GCLU", "ResponseCalibration", "CalibratedResidual", "CalibratedTail"};

template <typename T>
constexpr ONNXTensorElementDataType kElement = std::is_same_v<T, float>    ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                               : std::is_same_v<T, __half> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                                                           : ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;

// Shared memory in which no whole sample fits: the tail takes three kernels, and its workspace.
FakeDevice small_device() {
  FakeDevice device;
  device.shared_bytes = 4096;
  device.major = 8;
  return device;
}

class Glue : public ::testing::Test {
 protected:
  Glue() {
    use_device({});
    fake() = {};
  }
  ~Glue() override {
    EXPECT_EQ(fake().live_scratch, 0);
    EXPECT_EQ(fake().live_infos, 0);
    EXPECT_EQ(fake().live_allocators, 0);
    EXPECT_EQ(fake().scratch_overrun, 0);
    for (const Launch& launch : launches()) {
      EXPECT_EQ(launch.stream, stream) << launch.kernel;
    }
  }

  void expect_success(const Outcome& outcome) const { EXPECT_EQ(outcome.code, ORT_OK) << outcome.message; }

  void* stream = kStream;
};

template <typename T>
class Typed : public Glue {};
using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(Typed, Types);

TYPED_TEST(Typed, Gclu) {
  Tensor<TypeParam> x(3 * 5 * 67);
  x.fill_normal(7, 3.0);
  const std::vector<std::pair<std::string, rc_approximation>> forms = {
      {"none", RC_NONE}, {"sigmoid", RC_SIGMOID}, {"tanh", RC_TANH}};
  for (const auto& [name, form] : forms) {
    Tensor<TypeParam> y(x.count());
    Node node("GCLU", kElement<TypeParam>, {{{"approximate", name}}, {}});
    this->expect_success(node.run({{x.data(), {3, 5, 67}}}, y.data(), kStream));
    EXPECT_EQ(node.output_shape, (Sizes{3, 5, 67}));
    for (std::int64_t i = 0; i < x.count(); ++i) {
      const double exact = exact_gclu(x[i], form);
      ASSERT_TRUE(near(y[i], exact, bound<TypeParam>(x[i], exact, 6))) << name;
    }
    EXPECT_TRUE(y.guards_hold());
  }
  EXPECT_EQ(launches().size(), 3U);
}

TYPED_TEST(Typed, Calibrations) {
  constexpr std::int64_t kBatch = 3, kChannels = 7;
  const Sizes shape = {kBatch, kChannels, 5, 9};
  constexpr float kWide = 0.25F;  // far from the default
  constexpr std::int64_t kPositions = 5 * 9;
  Tensor<TypeParam> a(kBatch * kChannels * kPositions), shortcut(a.count()), plain(a.count()), residual(a.count());
  Tensor<TypeParam> mu(kBatch * kChannels), log_var(mu.count());
  a.fill_normal(1, 2.0);
  shortcut.fill_normal(2, 2.0);
  mu.fill_normal(3, 1.0);
  log_var.fill_normal(4, 2.0);
  const auto vector_of = [&](Tensor<TypeParam>& tensor) {
    return std::pair<const void*, Sizes>{tensor.data(), {kBatch, kChannels}};
  };
  Node calibration("ResponseCalibration", kElement<TypeParam>);
  this->expect_success(calibration.run({{a.data(), shape}, vector_of(mu), vector_of(log_var)}, plain.data(), kStream));
  Node ending("CalibratedResidual", kElement<TypeParam>, {{}, {{"epsilon", kWide}}});
  this->expect_success(ending.run({{a.data(), shape}, vector_of(mu), vector_of(log_var), {shortcut.data(), shape}},
                                  residual.data(), kStream));
  for (std::int64_t i = 0; i < a.count(); ++i) {
    const std::int64_t plane = i / kPositions;
    const auto exact = [&](float epsilon) {
      return exact_calibration(a[i], mu[plane], log_var[plane], static_cast<double>(epsilon));
    };
    ASSERT_TRUE(near(plain[i], exact(kEpsilon), bound<TypeParam>(a[i], exact(kEpsilon), 8)));
    const double sum = std::max(exact(kWide) + shortcut[i], 0.0);
    ASSERT_TRUE(near(residual[i], sum, bound<TypeParam>(std::abs(a[i]) + std::abs(shortcut[i]), sum, 10)));
  }
  EXPECT_TRUE(plain.guards_hold() && residual.guards_hold());
  EXPECT_EQ(ending.output_shape, shape);
}

template <typename T>
std::vector<std::pair<const void*, Sizes>> inputs_of(const Operands<T>& operands) {
  const Shape& s = operands.shape;
  const Sizes samples = {s.batch, s.channels, 1, s.positions};
  return {{operands.a.data(), samples},
          {operands.shortcut.data(), samples},
          {operands.w1.data(), {s.hidden, s.channels}},
          {operands.b1.data(), {s.hidden}},
          {operands.w2.data(), {2 * s.channels, s.hidden}},
          {operands.b2.data(), {2 * s.channels}}};
}

TYPED_TEST(Typed, TheWholeTailInOneKernelAndInThree) {
  for (const FakeDevice& device : {FakeDevice{}, small_device()}) {
    use_device(device);
    fake().scratch_bytes.clear();
    Operands<TypeParam> operands({2, 5, 1031, 3});
    operands.epsilon = 0.25F;
    Node node("CalibratedTail", kElement<TypeParam>, {{}, {{"epsilon", operands.epsilon}}});
    this->expect_success(node.run(inputs_of(operands), operands.y.data(), kStream));
    operands.check();
    EXPECT_EQ(node.output_shape, (Sizes{2, 5, 1, 1031}));
    EXPECT_EQ(fake().scratch_bytes, std::vector<std::size_t>{rc_cuda_calibrated_tail_workspace(2, 5)});
    EXPECT_EQ(launches().size(), device.major == 8 ? 3U : 1U);
  }
}

TYPED_TEST(Typed, EmptyBatchesLaunchNothing) {
  Node gclu("GCLU", kElement<TypeParam>);
  this->expect_success(gclu.run({{nullptr, {0, 5}}}, nullptr, kStream));
  Operands<TypeParam> operands({0, 5, 49, 3});
  Node tail("CalibratedTail", kElement<TypeParam>);
  this->expect_success(tail.run(inputs_of(operands), nullptr, kStream));
  EXPECT_EQ(tail.output_shape, (Sizes{0, 5, 1, 49}));
  EXPECT_TRUE(launches().empty());
}

TEST_F(Glue, EveryOperatorHasAKernelOfEveryTypeOnTheDevice) {
  const auto on_device = registered("CUDAExecutionProvider");
  EXPECT_EQ(on_device.size(), 3 * kNames.size());
  for (const OrtCustomOp* op : on_device) {
    for (std::size_t i = 0; i < op->GetInputTypeCount(op); ++i) {
      EXPECT_EQ(op->GetInputMemoryType(op, i), OrtMemTypeDefault);
    }
  }
}

TEST_F(Glue, OnlyTheCpusKernelsWriteInPlace) {
  for (const OrtCustomOp* op : registered("CUDAExecutionProvider")) {
    EXPECT_EQ(op->GetMayInplace, nullptr);
  }
  for (const OrtCustomOp* op : registered("CPUExecutionProvider")) {
    EXPECT_NE(op->GetMayInplace, nullptr);
  }
}

TEST_F(Glue, EveryRunHasItsOwnStream) {
  stream = kOtherStream;
  Operands<float> operands({1, 5, 49, 3});
  Node node("CalibratedTail", kElement<float>);
  expect_success(node.run(inputs_of(operands), operands.y.data(), kStream));
  EXPECT_EQ(launches().back().stream, kStream);
  use_device({});
  expect_success(node.run(inputs_of(operands), operands.y.data(), kOtherStream));
}

TEST_F(Glue, ShapesThatDoNotFitAreRefusedBeforeAnythingIsAskedFor) {
  Operands<float> operands({2, 5, 49, 3});
  auto inputs = inputs_of(operands);
  inputs[4].second = {10, 2};
  Node node("CalibratedTail", kElement<float>);
  const Outcome outcome = node.run(inputs, operands.y.data(), kStream);
  EXPECT_EQ(outcome.code, ORT_INVALID_ARGUMENT);
  EXPECT_EQ(outcome.message, "rc.CalibratedTail: W2 has shape (10, 2) where A's shape asks for (10, 3)");
  EXPECT_TRUE(launches().empty());
  EXPECT_TRUE(fake().scratch_bytes.empty());
}

TEST_F(Glue, WhatALauncherRefusesIsSaidInItsWords) {
  alignas(16) float y[1];
  Node gclu("GCLU", kElement<float>);
  EXPECT_EQ(gclu.run({{nullptr, {1}}}, y, kStream).message, "rc.GCLU: X is null");

  Node calibration("ResponseCalibration", kElement<float>);
  const Outcome outcome = calibration.run({{y, {1, 1}}, {nullptr, {1, 1}}, {y, {1, 1}}}, y, kStream);
  EXPECT_EQ(outcome.code, ORT_FAIL);
  EXPECT_EQ(outcome.message, "rc.ResponseCalibration: Mu is null");
}

TEST_F(Glue, ALaunchThatFailsIsSaidInCudasWordsAndItsWorkspaceFreed) {
  FakeDevice failing = small_device();
  for (const std::string& name : kNames) {
    failing.launches_until_failure = name == "CalibratedTail" ? 1 : 0;
    use_device(failing);
    Operands<float> operands({2, 5, 1031, 3});
    auto inputs = inputs_of(operands);
    if (name != "CalibratedTail") {
      const std::pair<const void*, Sizes> statistics = {operands.b2.data(), {2, 5}};
      inputs = {inputs[0], statistics, statistics, inputs[1]};
    }
    Node node(name, kElement<float>);
    const Outcome outcome = node.run(inputs, operands.y.data(), kStream);
    EXPECT_EQ(outcome.code, ORT_FAIL);
    const std::string step = name == "CalibratedTail" ? " (coefficients)" : "";
    EXPECT_EQ(outcome.message, "rc." + name + ": " + name + step + ": words for an error (itsName)");
    EXPECT_EQ(fake().live_scratch, 0);
  }
}

TEST_F(Glue, WhatOnnxRuntimeRefusesIsPassedOn) {
  Operands<float> operands({2, 5, 49, 3});
  Node node("CalibratedTail", kElement<float>);
  fake().scratch_failure = "no memory is left";
  EXPECT_EQ(node.run(inputs_of(operands), operands.y.data(), kStream).message, "rc.CalibratedTail: no memory is left");
  fake().scratch_failure.clear();
  fake().stream_failure = "there is no stream";
  EXPECT_EQ(node.run(inputs_of(operands), operands.y.data(), kStream).message, "rc.CalibratedTail: there is no stream");
  EXPECT_TRUE(launches().empty());

  fake().allocator_failure = "there is no allocator";
  EXPECT_EQ(Node("GCLU", kElement<float>).created.message, "rc.GCLU: there is no allocator");
}

TEST_F(Glue, AttributesThatAreNoneAreRefused) {
  const Node node("GCLU", kElement<float>, {{{"approximate", "erf"}}, {}});
  EXPECT_EQ(node.created.code, ORT_INVALID_ARGUMENT);
  EXPECT_EQ(node.created.message, "rc.GCLU: approximate is 'erf'; it must be none, sigmoid or tanh");
  const Node calibration("ResponseCalibration", kElement<float>, {{}, {{"epsilon", 0.0F}}});
  EXPECT_EQ(calibration.created.message, "rc.ResponseCalibration: epsilon is 0; it must be positive and finite");
}

}  // namespace
}  // namespace rc::test
