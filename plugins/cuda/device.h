// What a launcher must know of the current device.

#pragma once

#include "launch.h"
#include "tail_plan.h"

namespace rc {

rc_status read_device(DeviceLimits* limits);

}  // namespace rc
