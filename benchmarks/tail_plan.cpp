// Prints how tail.cu would launch a whole tail: `tail_plan ELEMENT_BYTES BATCH
// CHANNELS POSITIONS HIDDEN PROCESSORS SHARED_BYTES` gives "fused cluster
// threads shared_bytes bytes_in_flight". kernel_predictions.py compiles and
// runs it.

#include "tail_plan.h"

#include <cstdio>
#include <cstdlib>

int main(int count, char **words) {
  if (count != 8) {
    std::fprintf(stderr, "tail_plan: 7 numbers are wanted\n");
    return 2;
  }
  const auto number = [words](int index) {
    return static_cast<std::int64_t>(std::atoll(words[index]));
  };
  const rc::TailShape shape = {number(2), number(3), number(4), number(5),
                               static_cast<std::int32_t>(number(1))};
  const rc::DeviceLimits device = {static_cast<int>(number(6)), number(7),
                                   true};
  const rc::TailPlan plan = rc::plan_tail(shape, device);
  const std::int64_t slices = plan.layout.shortcut != 0 ? 2 : 1;
  std::printf("%d %d %d %lld %lld\n", plan.fused ? 1 : 0, plan.cluster,
              plan.threads, static_cast<long long>(plan.layout.bytes),
              static_cast<long long>(slices * plan.layout.means));
  return 0;
}
