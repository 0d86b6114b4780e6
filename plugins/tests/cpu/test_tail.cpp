// rc_cpu_calibrated_tail against double precision.

#include <cmath>

#include "fixture.h"
#include "reference.h"

namespace rc::test {
namespace {

class CalibratedTail : public CpuTest {};

struct Case {
  Extent extent;
  int64_t hidden;
  int64_t block = 1;
};

// Channels and hidden units that fill no vector; one sample that threads share; many that they divide; none.
const Case kCases[] = {
    {{0, 8, 16}, 2},        {{1, 1, 1}, 1},   {{2, 3, 7}, 2},     {{3, 16, 64}, 4},
    {{1, 33, 49}, 5},       {{9, 20, 65}, 3}, {{2, 64, 300}, 16}, {{1, 130, 200}, 0},
    {{1, 2, 257 * 259}, 1}, {{17, 5, 33}, 1}, {{2, 37, 9}, 8},
};

// Channels side by side: positions of which four at a time leave some over; one sample that threads share; many.
const Case kBlockedCases[] = {
    {{0, 8, 16}, 2, 8},   {{1, 8, 1}, 1, 8},   {{3, 24, 49}, 2, 8},  {{1, 64, 600}, 4, 8},
    {{2, 16, 64}, 4, 16}, {{1, 48, 7}, 0, 16}, {{9, 32, 31}, 3, 16}, {{1, 32, 257 * 9}, 1, 16},
};

// Where an element of the layout (N, C, positions) lies in blocks of channels.
std::size_t place(std::size_t element, const Case& c) {
  const auto positions = static_cast<std::size_t>(c.extent.positions);
  const auto block = static_cast<std::size_t>(c.block);
  const std::size_t row = element / positions;  // of all samples: their channels fill blocks
  return (row / block * positions + element % positions) * block + row % block;
}

template <class T>
std::vector<T> blocked(const std::vector<T>& tensor, const Case& c) {
  std::vector<T> result(tensor.size());
  for (std::size_t i = 0; i < tensor.size(); ++i) {
    result[place(i, c)] = tensor[i];
  }
  return result;
}

std::size_t product(int64_t a, int64_t b) { return static_cast<std::size_t>(a * b); }

template <class T, std::size_t kCount>
void expect_cases(const Case (&cases)[kCount], Pool* pool) {
  constexpr float kEpsilon = 0.25F;
  for (const Case& c : cases) {
    const auto channels = static_cast<std::size_t>(c.extent.channels);
    const auto positions = static_cast<std::size_t>(c.extent.positions);
    const std::size_t count = product(c.extent.batch, c.extent.channels) * positions;
    const std::vector<T> a = stored<T>(normal(count, 11, 2.0F));
    const std::vector<T> shortcut = stored<T>(normal(count, 12));
    const std::vector<T> w1 = stored<T>(normal(product(c.hidden, c.extent.channels), 13));
    const std::vector<T> b1 = stored<T>(normal(static_cast<std::size_t>(c.hidden), 14));
    const std::vector<T> w2 = stored<T>(normal(product(2 * c.extent.channels, c.hidden), 15, 0.5F));
    const std::vector<T> b2 = stored<T>(normal(2 * channels, 16, 0.5F));
    const std::vector<T> laid_out = blocked(a, c);
    const std::vector<T> other_laid_out = blocked(shortcut, c);
    Guarded<float> workspace(rc_cpu_calibrated_tail_workspace(c.extent.batch, c.extent.channels, c.hidden) /
                             sizeof(float));
    Guarded<T> y(count);
    const rc_tail operands = {
        laid_out.data(), other_laid_out.data(), w1.data(),      b1.data(),         w2.data(),          b2.data(),
        y.data(),        workspace.data(),      c.extent.batch, c.extent.channels, c.extent.positions, c.hidden,
        kEpsilon,        TypeOf<T>::type};
    ASSERT_EQ(rc_cpu_calibrated_tail(&operands, c.block, pool == nullptr ? nullptr : pool->get()), RC_OK);
    y.expect_guards_untouched();
    workspace.expect_guards_untouched();
    const std::vector<float> read = loaded(a);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t sample = i / (channels * positions);
      const std::size_t channel = i / positions % channels;
      static thread_local std::vector<double> statistics;
      if (i % (channels * positions) == 0) {
        statistics = reference::statistics(read.data() + sample * channels * positions, channels, positions, loaded(w1),
                                           loaded(b1), loaded(w2), loaded(b2));
      }
      const auto response = static_cast<double>(read[i]);
      const double mu = statistics[channel];
      const double log_var = statistics[channels + channel];
      const double other = static_cast<double>(load(shortcut[i]));
      const double exact =
          std::fmax(reference::calibrated(response, mu, log_var, static_cast<double>(kEpsilon)) + other, 0.0);
      // mu and log_var are sums of up to 130 products each: their own error, 1e-6 here, moves the weight by less than
      // phi(0) |d mu| / epsilon + |d log_var| / 8.
      const double allowed =
          4e-6 * (std::fabs(response) + std::fabs(other)) + TypeOf<T>::rounding * exact + TypeOf<T>::smallest;
      ASSERT_NEAR(static_cast<double>(y[place(i, c)]), exact, allowed)
          << c.extent.batch << 'x' << c.extent.channels << 'x' << c.extent.positions << ", blocks of " << c.block
          << ", element " << i;
    }
  }
}

TEST_F(CalibratedTail, Float) { expect_cases<float>(kCases, nullptr); }
TEST_F(CalibratedTail, Half) { expect_cases<Half>(kCases, nullptr); }
TEST_F(CalibratedTail, BFloat16) { expect_cases<BFloat16>(kCases, nullptr); }

TEST_F(CalibratedTail, BlockedFloat) { expect_cases<float>(kBlockedCases, nullptr); }
TEST_F(CalibratedTail, BlockedHalf) { expect_cases<Half>(kBlockedCases, nullptr); }
TEST_F(CalibratedTail, BlockedBFloat16) { expect_cases<BFloat16>(kBlockedCases, nullptr); }

TEST_F(CalibratedTail, BlockedFloatOnThreads) {
  Pool pool;
  expect_cases<float>(kBlockedCases, &pool);
  EXPECT_GT(pool.tasks(), 10U);
}

TEST_F(CalibratedTail, FloatOnThreads) {
  Pool pool;
  expect_cases<float>(kCases, &pool);
  EXPECT_GT(pool.tasks(), 10U);
}

}  // namespace
}  // namespace rc::test
