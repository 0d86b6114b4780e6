// Tensors of more than 2^32 elements: memory is only promised, and the blocks at the end are run.

#include <sys/mman.h>

#include "calibration.h"
#include "emulation.h"
#include "gclu.h"
#include "tensors.h"

namespace rc::test {
namespace {

constexpr std::int64_t kCount = (std::int64_t{1} << 32) + 8 * 1000 + 3;

// Address space for `kCount` halves, of which only the pages that are touched take memory.
class Promised {
 public:
  Promised()
      : data_(mmap(nullptr, kCount * sizeof(__half), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  ~Promised() { munmap(data_, kCount * sizeof(__half)); }
  Promised(const Promised&) = delete;
  Promised& operator=(const Promised&) = delete;

  bool granted() const { return data_ != MAP_FAILED; }
  __half* data() const { return static_cast<__half*>(data_); }

 private:
  void* data_;
};

constexpr std::int64_t kChecked = 3000;  // elements at the end

class Large : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!x.granted() || !y.granted()) {
      GTEST_SKIP() << "the system promises no 16 GB of address space";
    }
    for (std::int64_t i = kCount - kChecked; i < kCount; ++i) {
      x.data()[i] = from_float<__half>(static_cast<float>(i % 17) - 8.0F);
    }
  }

  double at(const Promised& tensor, std::int64_t i) const { return static_cast<double>(to_float(tensor.data()[i])); }

  Promised x;
  Promised y;
};

TEST_F(Large, Gclu) {
  const Vectors vectors = vectors_of(kCount, 2, x.data(), static_cast<const void*>(y.data()));
  constexpr int kThreads = 32;
  const std::int64_t blocks = (vectors.total + kThreads * kGcluVectors - 1) / (kThreads * kGcluVectors);
  run_grid(
      4, 1, kThreads, 0,
      [&](const HostContext& context, unsigned char*) {
        gclu_thread<__half, RC_NONE>(context, x.data(), y.data(), vectors);
      },
      blocks - 4);
  for (std::int64_t i = kCount - kChecked; i < kCount; ++i) {
    const double exact = exact_gclu(at(x, i), RC_NONE);
    ASSERT_TRUE(near(at(y, i), exact, bound<__half>(at(x, i), exact, 6))) << i - kCount;
  }
}

// One plane beyond 2^32 elements, which 32-bit offsets within a plane would not reach.
TEST_F(Large, CalibrationOfOnePlane) {
  const Vectors vectors = vectors_of(kCount, 2, x.data(), static_cast<const void*>(y.data()));
  const __half mu = from_float<__half>(0.5F);
  const __half log_var = from_float<__half>(1.0F);
  const std::int64_t length = calibration_block_vectors(vectors, kCount, 132);
  const CalibrationTensors<__half> tensors = {x.data(), nullptr, y.data(), vectors, length, kCount};
  const FromLogVar<__half> source = {&mu, &log_var, 1e-5F};
  const std::int64_t blocks = (vectors.total + length - 1) / length;
  run_grid(
      2, 1, 32, kTablePlanes * sizeof(Coefficient),
      [&](const HostContext& context, unsigned char* shared) {
        calibrate_block<__half, false>(context, tensors, source, reinterpret_cast<Coefficient*>(shared));
      },
      blocks - 2);
  for (std::int64_t i = kCount - kChecked; i < kCount; ++i) {
    const double exact = exact_calibration(at(x, i), 0.5, 1.0, 1e-5);
    ASSERT_TRUE(near(at(y, i), exact, bound<__half>(at(x, i), exact, 8))) << i - kCount;
  }
}

}  // namespace
}  // namespace rc::test
