// What the other tests compare with can fail.

#include "tensors.h"

namespace rc::test {
namespace {

const double kInfinity = std::numeric_limits<double>::infinity();

TEST(Near, AnInfiniteResultIsMetByNothingElse) {
  EXPECT_TRUE(near(kInfinity, kInfinity, kInfinity));
  EXPECT_FALSE(near(7.0, kInfinity, kInfinity));
  EXPECT_FALSE(near(-kInfinity, kInfinity, kInfinity));
  EXPECT_FALSE(near(kInfinity, 7.0, 1.0));
}

TEST(Near, NanIsMetByNanAlone) {
  const double nan = std::nan("");
  EXPECT_TRUE(near(nan, nan, 0.0));
  EXPECT_FALSE(near(nan, 7.0, kInfinity));
  EXPECT_FALSE(near(7.0, nan, kInfinity));
}

TEST(Near, FiniteResultsAreHeldAgainstTheBound) {
  EXPECT_TRUE(near(7.5, 7.0, 0.5));
  EXPECT_FALSE(near(7.5, 7.0, 0.25));
}

}  // namespace
}  // namespace rc::test
