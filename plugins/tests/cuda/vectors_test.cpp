#include "vectors.h"

#include <cstdint>
#include <vector>

#include "calibration.h"
#include "gtest/gtest.h"

namespace rc {
namespace {

const void* at(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

TEST(Vectors, HoldEveryElementOnceAndWholeOnesAreAligned) {
  for (const std::int32_t bytes : {2, 4}) {
    for (std::uintptr_t shift = 0; shift < 16; shift += static_cast<std::uintptr_t>(bytes)) {
      for (std::int64_t count = 0; count <= 70; ++count) {
        const std::uintptr_t address = 4096 + shift;
        const Vectors vectors = vectors_of(count, bytes, at(address), at(address + 160));
        ASSERT_TRUE(vectors.aligned);
        std::vector<int> seen(static_cast<std::size_t>(count));
        for (std::int64_t v = 0; v < vectors.total; ++v) {
          for (std::int64_t e = vectors.first(v); e < vectors.first(v) + vectors.width; ++e) {
            if (vectors.holds(e)) {
              ++seen[static_cast<std::size_t>(e)];
            } else {
              ASSERT_FALSE(vectors.whole(v));
            }
          }
          if (vectors.whole(v)) {
            ASSERT_EQ((static_cast<std::int64_t>(address) + vectors.first(v) * bytes) % 16, 0);
          }
        }
        for (const int times : seen) {
          ASSERT_EQ(times, 1);
        }
        // At most the first and the last are not whole.
        ASSERT_LE(vectors.total, count / vectors.width + 2);
      }
    }
  }
}

TEST(Vectors, OfArraysAtDifferentDistancesAreNeverWhole) {
  const Vectors vectors = vectors_of(100, 2, at(4096), at(4098));
  EXPECT_FALSE(vectors.aligned);
  EXPECT_EQ(vectors.shift, 0);
  EXPECT_EQ(vectors.total, 13);
  for (std::int64_t v = 0; v < vectors.total; ++v) {
    EXPECT_FALSE(vectors.whole(v));
  }
}

TEST(Vectors, CountBeyond32Bits) {
  const std::int64_t count = (std::int64_t{1} << 40) + 3;
  const Vectors vectors = vectors_of(count, 2, at(4096 + 6));
  EXPECT_EQ(vectors.total, (count + 3 + 7) / 8);
  const std::int64_t last = vectors.total - 1;
  EXPECT_EQ(vectors.first(last), count + 3 - (count + 3) % 8 - 3);
  EXPECT_TRUE(vectors.whole(last - 1));
  EXPECT_FALSE(vectors.whole(last));
}

TEST(Quotient, IsExactOnBothSidesOf32Bits) {
  const std::int64_t edge = std::int64_t{1} << 32;
  for (const std::int64_t d : {std::int64_t{1}, std::int64_t{3}, std::int64_t{49}, edge - 1, edge, edge + 1}) {
    for (const std::int64_t base : {std::int64_t{0}, edge / 2, edge, edge * 4096}) {
      for (std::int64_t n = base > 3 ? base - 3 : 0; n < base + 3; ++n) {
        ASSERT_EQ(quotient(n, d), n / d);
      }
    }
  }
}

TEST(PlaneTable, FindsThePlaneOfTheFirstAndTheLastElementOfEach) {
  for (std::int64_t positions = 1; positions < 1 << 20; positions += positions < 2000 ? 1 : 997) {
    const PlaneTable table(nullptr, 0, positions);
    for (std::int64_t plane = 0; (plane + 1) * positions <= PlaneTable::kLongRun; ++plane) {
      ASSERT_EQ(table.plane_of(plane * positions), plane) << positions;
      ASSERT_EQ(table.plane_of((plane + 1) * positions - 1), plane) << positions;
    }
  }
}

TEST(PlaneTable, LongRunsHaveTwoPlanes) {
  const std::int64_t limit = PlaneTable::kLongRun;
  for (const std::int64_t positions : {limit - 1, limit, limit + 1, std::int64_t{1} << 40}) {
    const PlaneTable table(nullptr, 1, positions);
    for (const std::int64_t offset :
         {std::int64_t{0}, limit - 2, limit - 1, limit, limit + 1, positions - 1, positions, positions + 16'383}) {
      ASSERT_EQ(table.plane_of(offset), offset / positions) << offset << " in planes of " << positions;
    }
  }
}

TEST(CalibrationBlocks, TouchNoMorePlanesThanTheirTableHolds) {
  for (const std::int32_t bytes : {2, 4}) {
    for (const std::int64_t positions : {1, 2, 3, 7, 8, 15, 16, 17, 49, 1024, 16383, 16384, 16385, 1 << 20}) {
      for (const std::int64_t planes : {1LL, 2LL, 1000LL, 100'000LL, 3'000'000'000LL}) {
        for (const std::uintptr_t shift : {std::uintptr_t{0}, static_cast<std::uintptr_t>(bytes)}) {
          const Vectors vectors = vectors_of(planes * positions, bytes, at(4096 + shift));
          const std::int64_t length = calibration_block_vectors(vectors, positions, 132);
          ASSERT_GE(length, 1);
          ASSERT_LE(length, 4 * kCalibrationThreads * kCalibrationVectors);
          // The longest runs of elements that such a block can have, from the worst start within a plane.
          const std::int64_t most = (length * vectors.width - 1 + positions - 1) / positions + 1;
          ASSERT_LE(most, kTablePlanes) << positions << " positions, " << planes << " planes";
        }
      }
    }
  }
}

TEST(CalibrationBlocks, AreShortWhereProcessorsWouldStayIdle) {
  const Vectors small = vectors_of(1 << 14, 2, at(4096));
  const Vectors large = vectors_of(1 << 28, 2, at(4096));
  EXPECT_EQ(calibration_block_vectors(small, 1024, 132), kCalibrationThreads * kCalibrationVectors);
  EXPECT_EQ(calibration_block_vectors(large, 1024, 132), 4 * kCalibrationThreads * kCalibrationVectors);
}

}  // namespace
}  // namespace rc
