#include "tail_plan.h"

#include "gtest/gtest.h"

namespace rc {
namespace {

constexpr DeviceLimits kH200 = {132, 227 * 1024, true};
constexpr DeviceLimits kA10 = {72, 99 * 1024, false};

TEST(TailPlan, OneKernelForEveryLayerOfResCNet32AtEveryBatch) {
  for (const std::int64_t channels : {16, 32, 64}) {
    const std::int64_t positions = 16 * 1024 / channels * 16 / channels;
    for (const std::int32_t bytes : {2, 4}) {
      for (const std::int64_t batch : {1, 8, 64, 4096}) {
        for (const DeviceLimits& device : {kH200, kA10}) {
          const TailPlan plan = plan_tail({batch, channels, positions, channels / 4, bytes}, device);
          ASSERT_TRUE(plan.fused) << channels << " channels in " << bytes << " bytes";
          ASSERT_LE(plan.layout.bytes, device.shared_bytes);
          ASSERT_TRUE(device.clusters || plan.cluster == 1);
        }
      }
    }
  }
}

TEST(TailPlan, SpreadsFewSamplesOverProcessorsAndManyNot) {
  EXPECT_EQ(plan_tail({1, 16, 1024, 4, 2}, kH200).cluster, 8);
  EXPECT_EQ(plan_tail({1, 64, 64, 16, 2}, kH200).cluster, 2);
  EXPECT_EQ(plan_tail({33, 16, 1024, 4, 2}, kH200).cluster, 4);
  EXPECT_EQ(plan_tail({1000, 16, 1024, 4, 2}, kH200).cluster, 1);
  EXPECT_EQ(plan_tail({1, 1, 1024, 1, 2}, kH200).cluster, 1);
}

TEST(TailPlan, SpreadsALargeSampleUntilItFits) {
  const TailPlan plan = plan_tail({1000, 256, 56 * 56, 64, 2}, kH200);
  EXPECT_TRUE(plan.fused);
  EXPECT_EQ(plan.cluster, 8);
  EXPECT_FALSE(plan_tail({1000, 256, 56 * 56, 64, 4}, kH200).fused);
  EXPECT_FALSE(plan_tail({1, 256, 56 * 56, 64, 2}, kA10).fused);
}

TEST(TailPlan, LeavesLargeWeightsToThreeKernels) {
  for (const std::int64_t batch : {1, 300}) {
    EXPECT_FALSE(plan_tail({batch, 2048, 49, 512, 2}, kH200).fused);  // ResNet-50's last stage: W1 has 2 MB
    EXPECT_TRUE(plan_tail({batch, 2048, 49, 64, 2}, kH200).fused);    // 256 KB
    EXPECT_FALSE(plan_tail({batch, 2048, 49, 64, 4}, kH200).fused);
    EXPECT_TRUE(plan_tail({batch, 512, 784, 128, 2}, kH200).fused);  // ResNet-50's second stage
  }
}

TEST(TailPlan, KeepsTheShortcutOnlyWhereTwoBlocksFitAProcessor) {
  int kept = 0;
  for (const DeviceLimits& device : {kH200, kA10}) {
    const std::int64_t of_processor = device.shared_bytes + 1024;
    for (std::int64_t positions = 1; positions < 2048; ++positions) {
      const TailPlan plan = plan_tail({1000, 16, positions, 4, 4}, device);
      if (plan.fused && plan.layout.shortcut != 0) {
        ASSERT_LE(2 * (plan.layout.bytes + 1024), of_processor) << positions;
        ++kept;
      }
    }
  }
  EXPECT_GT(kept, 1000);
}

TEST(TailPlan, RefusesWhatHasNoRoomWithoutOverflow) {
  const std::int64_t huge = std::int64_t{1} << 31;
  EXPECT_FALSE(plan_tail({1, huge, 1, 1, 2}, kH200).fused);
  EXPECT_FALSE(plan_tail({1, 1, huge * huge / 4, 1, 2}, kH200).fused);
  EXPECT_FALSE(plan_tail({1, 4, 4, huge, 2}, kH200).fused);
}

TEST(TailPlan, PlacesNothingOnTopOfAnotherThing) {
  for (const std::int64_t channels : {1, 2, 3, 16, 33, 64, 256, 2048}) {
    for (const std::int64_t positions : {1, 3, 49, 64, 1024, 3136}) {
      for (const std::int64_t hidden : {1, 4, 33, 512}) {
        for (const std::int64_t batch : {1, 7, 300}) {
          const TailPlan plan = plan_tail({batch, channels, positions, hidden, 2}, kH200);
          if (!plan.fused) {
            continue;
          }
          const TailLayout& at = plan.layout;
          const std::int64_t planes = (channels + plan.cluster - 1) / plan.cluster;
          const std::int64_t slice = planes * positions * 2 + 14;  // beginning anywhere within a vector
          ASSERT_LE(at.responses + slice, at.means);
          ASSERT_LE(at.means + channels * 4, at.hidden);
          ASSERT_LE(at.hidden + hidden * 4, at.coefficients);
          ASSERT_LE(at.coefficients + planes * 8, at.partials);
          const std::int64_t sums = at.partials + std::max<std::int64_t>(planes, plan.threads / 32) * 4;
          std::int64_t end = sums;
          if (at.weights != 0) {
            ASSERT_LE(end, at.weights);
            end = at.weights + 2 * (hidden * (channels + 1) + 2 * planes * (hidden + 1));
          }
          if (at.shortcut != 0) {
            ASSERT_LE(end, at.shortcut);
            end = at.shortcut + slice;
          }
          ASSERT_LE(end, at.bytes);
          ASSERT_LE(at.bytes, kH200.shared_bytes);
          ASSERT_EQ(at.shortcut % 16, 0);
          ASSERT_EQ(plan.threads % 32, 0);
          ASSERT_LE(plan.cluster, channels);
        }
      }
    }
  }
}

TEST(TailPlan, SplitsEveryChannelOnce) {
  for (int channels = 1; channels < 70; ++channels) {
    for (int cluster = 1; cluster <= 8 && cluster <= channels; cluster *= 2) {
      EXPECT_EQ(first_channel(channels, 0, cluster), 0);
      EXPECT_EQ(first_channel(channels, cluster, cluster), channels);
      for (int rank = 0; rank < cluster; ++rank) {
        const int planes = first_channel(channels, rank + 1, cluster) - first_channel(channels, rank, cluster);
        EXPECT_GE(planes, 1);
        EXPECT_LE(planes, (channels + cluster - 1) / cluster);
      }
    }
  }
}

TEST(PlaneGroups, FitTheBlock) {
  for (const int threads : {32, 128, 256, 1024}) {
    for (const int planes : {1, 2, 3, 7, 8, 9, 64, 300}) {
      for (const std::int64_t positions : {1, 8, 9, 49, 64, 256, 1024}) {
        const PlaneGroups groups = plane_groups(positions, 8, planes, threads);
        EXPECT_EQ(32 % groups.lanes, 0);
        EXPECT_GE(groups.parts, 1);
        EXPECT_TRUE(groups.parts == 1 || groups.parts * planes <= threads / 32);
      }
    }
  }
}

}  // namespace
}  // namespace rc
