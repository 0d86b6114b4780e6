// Conversions of half and bfloat16, every one of their values and every boundary between two.

#include <cmath>

#include "fixture.h"

namespace rc::test {
namespace {

double half_value(unsigned bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  const int exponent = static_cast<int>((bits >> 10U) & 31U);
  const double fraction = static_cast<double>(bits & 1023U) / 1024.0;
  return sign * (exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0 + fraction, exponent - 15));
}

TEST(Storage, EveryHalfIsRead) {
  for (unsigned bits = 0; bits < 0x10000U; ++bits) {
    const float read = load(Half{static_cast<std::uint16_t>(bits)});
    if ((bits & 0x7fffU) > 0x7c00U) {
      ASSERT_TRUE(std::isnan(read));
    } else if ((bits & 0x7fffU) == 0x7c00U) {
      ASSERT_EQ(read, (bits & 0x8000U) != 0 ? -HUGE_VALF : HUGE_VALF);
    } else {
      ASSERT_EQ(static_cast<double>(read), half_value(bits)) << bits;
      ASSERT_EQ(std::signbit(read), (bits & 0x8000U) != 0);
    }
  }
}

// Between two neighbours lies a tie, which goes to the even one; what is beside the tie goes to the nearer one.
template <class T>
void expect_nearest(unsigned largest) {
  for (unsigned bits = 0; bits < largest; ++bits) {
    const float low = load(T{static_cast<std::uint16_t>(bits)});
    const float high = load(T{static_cast<std::uint16_t>(bits + 1)});
    const float tie = 0.5F * low + 0.5F * high;
    ASSERT_EQ(store<T>(low).bits, bits);
    ASSERT_EQ(store<T>(-low).bits, bits | 0x8000U);
    ASSERT_EQ(store<T>(tie).bits, bits + (bits & 1U)) << bits;
    ASSERT_EQ(store<T>(std::nextafter(tie, 0.0F)).bits, bits);
    ASSERT_EQ(store<T>(std::nextafter(tie, HUGE_VALF)).bits, bits + 1);
  }
}

TEST(Storage, HalfIsRoundedToNearest) { expect_nearest<Half>(0x7bffU); }
TEST(Storage, BFloat16IsRoundedToNearest) { expect_nearest<BFloat16>(0x7f7fU); }

TEST(Storage, BeyondTheRange) {
  EXPECT_EQ(store<Half>(65519.996F).bits, 0x7bffU);
  EXPECT_EQ(store<Half>(65520.0F).bits, 0x7c00U);
  EXPECT_EQ(store<Half>(-1e30F).bits, 0xfc00U);
  EXPECT_EQ(store<Half>(HUGE_VALF).bits, 0x7c00U);
  EXPECT_EQ(store<BFloat16>(3.4e38F).bits, 0x7f80U);
  EXPECT_EQ(store<BFloat16>(-HUGE_VALF).bits, 0xff80U);
  EXPECT_TRUE(std::isnan(load(store<Half>(NAN))));
  EXPECT_TRUE(std::isnan(load(store<BFloat16>(detail::as_float(0x7f800001U)))));
}

}  // namespace
}  // namespace rc::test
