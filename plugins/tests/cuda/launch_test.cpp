// The whole way from a call of the C interface to its result, on the device of fake_runtime.h.

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "fake_runtime.h"
#include "rc/cuda.h"
#include "tail_operands.h"

namespace rc::test {
namespace {

template <typename T>
constexpr rc_type kType = std::is_same_v<T, float>    ? RC_FLOAT32
                          : std::is_same_v<T, __half> ? RC_FLOAT16
                                                      : RC_BFLOAT16;

std::vector<std::string> launched_kernels() {
  std::vector<std::string> names;
  for (const Launch& launch : launches()) {
    names.push_back(launch.kernel.substr(0, launch.kernel.find('<')));
  }
  return names;
}

void* const kStream = reinterpret_cast<void*>(0x1234);

template <typename T>
class Launched : public ::testing::Test {
 protected:
  Launched() { use_device({}); }

  static rc_status tail(Operands<T>& operands) {
    const Shape& shape = operands.shape;
    std::vector<float> workspace(rc_cuda_calibrated_tail_workspace(shape.batch, shape.channels) / sizeof(float), NAN);
    const rc_tail call = {operands.a.data(),  operands.shortcut.data(),
                          operands.w1.data(), operands.b1.data(),
                          operands.w2.data(), operands.b2.data(),
                          operands.y.data(),  workspace.data(),
                          shape.batch,        shape.channels,
                          shape.positions,    shape.hidden,
                          kEpsilon,           kType<T>};
    return rc_cuda_calibrated_tail(&call, kStream);
  }
};

using Types = ::testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(Launched, Types);

TYPED_TEST(Launched, Gclu) {
  for (const rc_approximation form : {RC_NONE, RC_SIGMOID, RC_TANH}) {
    for (const std::int64_t count : {1, 4097, 20'001}) {
      Tensor<TypeParam> x(count, 1);
      Tensor<TypeParam> y(count, 1);
      x.fill_normal(7, 3.0);
      ASSERT_EQ(rc_cuda_gclu(x.data(), y.data(), count, kType<TypeParam>, form, kStream), RC_OK);
      for (std::int64_t i = 0; i < count; ++i) {
        const double exact = exact_gclu(x[i], form);
        ASSERT_TRUE(near(y[i], exact, bound<TypeParam>(x[i], exact, 6))) << i << " of " << count;
      }
      ASSERT_TRUE(y.guards_hold());
      ASSERT_EQ(launches().back().stream, kStream);
    }
  }
  EXPECT_EQ(launches().size(), 9U);
}

TYPED_TEST(Launched, Calibrations) {
  constexpr std::int64_t kBatch = 3, kChannels = 7, kPositions = 259;
  Tensor<TypeParam> a(kBatch * kChannels * kPositions), shortcut(a.count()), plain(a.count()), residual(a.count());
  Tensor<TypeParam> mu(kBatch * kChannels), log_var(kBatch * kChannels);
  a.fill_normal(1, 2.0);
  shortcut.fill_normal(2, 2.0);
  mu.fill_normal(3, 1.0);
  log_var.fill_normal(4, 2.0);
  rc_calibration call = {a.data(),  mu.data(),  log_var.data(), plain.data(),    kBatch,
                         kChannels, kPositions, kEpsilon,       kType<TypeParam>};
  ASSERT_EQ(rc_cuda_response_calibration(&call, kStream), RC_OK);
  call.y = residual.data();
  ASSERT_EQ(rc_cuda_calibrated_residual(&call, shortcut.data(), kStream), RC_OK);
  for (std::int64_t i = 0; i < a.count(); ++i) {
    const std::int64_t plane = i / kPositions;
    const double exact = exact_calibration(a[i], mu[plane], log_var[plane], static_cast<double>(kEpsilon));
    ASSERT_TRUE(near(plain[i], exact, bound<TypeParam>(a[i], exact, 8)));
    const double sum = std::max(exact + shortcut[i], 0.0);
    ASSERT_TRUE(near(residual[i], sum, bound<TypeParam>(std::abs(a[i]) + std::abs(shortcut[i]), sum, 10)));
  }
  EXPECT_TRUE(plain.guards_hold() && residual.guards_hold());
  EXPECT_EQ(launches().size(), 2U);
}

TYPED_TEST(Launched, TheWholeTailInOneKernel) {
  for (const Shape& shape : {Shape{1, 32, 256, 8}, {2, 5, 49, 2}}) {
    Operands<TypeParam> operands(shape);
    ASSERT_EQ(this->tail(operands), RC_OK);
    operands.check();
  }
  EXPECT_EQ(launched_kernels(), (std::vector<std::string>{"tail_kernel", "tail_kernel"}));
  EXPECT_EQ(launches()[0].cluster, 4);
  EXPECT_EQ(launches()[0].stream, kStream);
}

TYPED_TEST(Launched, NanInATailStaysInItsSample) {
  FakeDevice small;
  small.shared_bytes = 4096;
  for (const FakeDevice& device : {FakeDevice{}, small}) {  // one kernel, and three
    use_device(device);
    Operands<TypeParam> operands({3, 5, 1031, 2});
    operands.a.set(operands.element(1, 1, 7), std::nan(""));
    ASSERT_EQ(this->tail(operands), RC_OK) << rc_cuda_last_error();
    for (std::int64_t i = 0; i < operands.y.count(); ++i) {
      ASSERT_EQ(std::isnan(operands.y[i]), i / (5 * 1031) == 1) << i;
    }
  }
}

TYPED_TEST(Launched, TheWholeTailInThreeKernels) {
  FakeDevice small;
  small.shared_bytes = 4096;
  small.major = 8;
  use_device(small);
  for (const Shape& shape : {Shape{2, 5, 1031, 3}, {1, 2, 5000, 1}, {3, 300, 7, 20, 1, 1}}) {
    Operands<TypeParam> operands(shape);
    use_device(small);
    ASSERT_EQ(this->tail(operands), RC_OK) << rc_cuda_last_error();
    EXPECT_EQ(launched_kernels(),
              (std::vector<std::string>{"mean_kernel", "coefficients_kernel", "calibration_kernel"}));
    operands.check();
  }
}

using LaunchedHalf = Launched<__half>;

TEST_F(LaunchedHalf, FifteenKernelsForTheTailsOfResCNet32) {
  for (const int major : {8, 9}) {
    FakeDevice noting;
    noting.runs = false;
    noting.major = major;
    noting.shared_bytes = (major == 9 ? 227 : 99) * 1024;
    use_device(noting);
    for (const Shape& shape : {Shape{1, 16, 1024, 4}, {1, 32, 256, 8}, {1, 64, 64, 16}}) {
      Operands<__half> operands(shape);
      for (int block = 0; block < 5; ++block) {
        ASSERT_EQ(this->tail(operands), RC_OK) << rc_cuda_last_error();
      }
    }
    EXPECT_EQ(launched_kernels(), std::vector<std::string>(15, "tail_kernel"));
  }
}

// Returns to the rules whatever happens.
class Planned {
 public:
  Planned(int cluster, int threads) { EXPECT_EQ(rc_cuda_set_tail_plan(cluster, threads), RC_OK); }
  ~Planned() { rc_cuda_set_tail_plan(0, 0); }
  Planned(const Planned&) = delete;
  Planned& operator=(const Planned&) = delete;
};

TEST_F(LaunchedHalf, EveryPlanThatIsAskedForComputesTheSame) {
  for (const int cluster : {1, 2, 3, 8}) {
    for (const int threads : {0, 32, 128, 1024}) {
      use_device({});
      const Planned planned(cluster, threads);
      Operands<__half> operands({2, 11, 259, 5});
      ASSERT_EQ(tail(operands), RC_OK) << rc_cuda_last_error();
      EXPECT_EQ(launches()[0].cluster, cluster);
      EXPECT_EQ(launches()[0].blocks, 2 * cluster);
      if (threads != 0) {
        EXPECT_EQ(launches()[0].threads, threads);
      }
      operands.check();
    }
  }
  use_device({});
  Operands<__half> operands({2, 11, 259, 5});
  {
    const Planned planned(-1, 0);
    ASSERT_EQ(tail(operands), RC_OK) << rc_cuda_last_error();
    EXPECT_EQ(launches().size(), 3U);
    operands.check();
  }
  ASSERT_EQ(tail(operands), RC_OK);
  EXPECT_EQ(launched_kernels().back(), "tail_kernel");  // by the rules again
}

TEST_F(LaunchedHalf, APlanWithoutRoomIsRefusedAndNotReplaced) {
  Operands<__half> operands({1, 5, 49, 2});
  for (const int cluster : {6, 8}) {  // more blocks than channels
    const Planned planned(cluster, 0);
    EXPECT_EQ(tail(operands), RC_UNSUPPORTED);
  }
  FakeDevice older;
  older.major = 8;
  use_device(older);
  const Planned planned(2, 0);
  EXPECT_EQ(tail(operands), RC_UNSUPPORTED);
  EXPECT_TRUE(launches().empty());
}

TEST(Interface, RefusesPlansThatCannotBe) {
  for (const auto& [cluster, threads] : {std::pair{-2, 0}, {9, 0}, {1, -32}, {1, 33}, {1, 1056}}) {
    EXPECT_EQ(rc_cuda_set_tail_plan(cluster, threads), RC_INVALID_ARGUMENT) << cluster << " of " << threads;
  }
}

// A device that no other test uses, so that nothing is known of it yet, and too small to spread eight samples on.
FakeDevice fresh_device() {
  static int processors = 1;
  FakeDevice noting;
  noting.runs = false;
  noting.processors = processors++;
  return noting;
}

TEST_F(LaunchedHalf, EveryLargeLaunchIsGrantedAllSharedMemory) {
  use_device(fresh_device());
  Operands<__half> large({8, 64, 1024, 16});
  Operands<__half> small({8, 32, 1024, 16});
  for (Operands<__half>* const operands : {&small, &large, &small}) {
    ASSERT_EQ(tail(*operands), RC_OK) << rc_cuda_last_error();
  }
  EXPECT_LT(launches()[0].shared_bytes, 100 * 1024);
  EXPECT_GT(launches()[0].shared_bytes, 48 * 1024);
  EXPECT_GT(launches()[1].shared_bytes, 128 * 1024);
  enter_context();
  ASSERT_EQ(tail(large), RC_OK) << rc_cuda_last_error();
  EXPECT_EQ(calls().grants, 4);
}

TEST_F(LaunchedHalf, ThreadsAtOnceDoNotTakeEachOthersSharedMemory) {
  use_device(fresh_device());
  Operands<__half> operands[2] = {Operands<__half>({8, 64, 1024, 16}), Operands<__half>({8, 32, 1024, 16})};
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&failures, &own = operands[i % 2]] {
      for (int turn = 0; turn < 50; ++turn) {
        failures += tail(own) == RC_OK ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(launches().size(), 400U);
}

TEST_F(LaunchedHalf, ADeviceIsAskedOnce) {
  use_device(fresh_device());
  Operands<__half> operands({1, 32, 256, 8});
  ASSERT_EQ(tail(operands), RC_OK) << rc_cuda_last_error();
  const int asked = calls().attributes;
  EXPECT_EQ(asked, 4);
  ASSERT_EQ(tail(operands), RC_OK);
  EXPECT_EQ(calls().attributes, asked);
  use_device(fresh_device());  // another one is asked too
  ASSERT_EQ(tail(operands), RC_OK);
  EXPECT_EQ(calls().attributes, asked);
}

TEST_F(LaunchedHalf, NoClustersInCodeOfOlderDevices) {
  FakeDevice older;
  older.compiled_for = 80;
  use_device(older);
  Operands<__half> operands({1, 32, 256, 8});
  ASSERT_EQ(tail(operands), RC_OK);
  EXPECT_EQ(launches()[0].cluster, 1);
  operands.check();
}

TEST_F(LaunchedHalf, ALaunchThatFailsIsTheLast) {
  FakeDevice failing;
  failing.shared_bytes = 4096;
  failing.major = 8;
  failing.launches_until_failure = 1;
  use_device(failing);
  Operands<__half> operands({2, 5, 1031, 3});
  EXPECT_EQ(tail(operands), RC_CUDA_ERROR);
  EXPECT_STREQ(rc_cuda_last_error(), "CalibratedTail (coefficients): words for an error (itsName)");
  EXPECT_EQ(launched_kernels(), std::vector<std::string>{"mean_kernel"});
  EXPECT_EQ(last_error(), cudaSuccess);  // it was the library's, and it has told of it
}

TEST_F(LaunchedHalf, MoreBlocksThanALaunchCanHaveAreRefused) {
  FakeDevice noting;
  noting.runs = false;
  use_device(noting);
  alignas(16) static __half memory[8];
  const std::int64_t count = (std::int64_t{1} << 31) * 8 * 4 * 256;
  EXPECT_EQ(rc_cuda_gclu(memory, memory, count - 8 * 1024, RC_FLOAT16, RC_NONE, nullptr), RC_OK);
  EXPECT_EQ(rc_cuda_gclu(memory, memory, count, RC_FLOAT16, RC_NONE, nullptr), RC_UNSUPPORTED);
}

}  // namespace
}  // namespace rc::test
