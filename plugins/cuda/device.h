// What a launcher must know of the current device, read once for each device.

#pragma once

#include <mutex>

#include "launch.h"
#include "tail_plan.h"

namespace rc {

// Values that belong to a device, read when a thread first asks for them; every thread has them afterwards. A read that
// fails is tried again by the next call.
template <typename Value>
class PerDevice {
 public:
  // `read` fills in a Value for the current device and returns a status.
  template <typename Read>
  rc_status get(Value* value, const Read& read) {
    int device = 0;
    const rc_status status = checked(cudaGetDevice(&device), "reading the device's properties");
    if (status != RC_OK) {
      return status;
    }
    if (device >= kMost) {
      return read(value);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    Slot& slot = slots_[device];
    if (!slot.known) {
      const rc_status found = read(&slot.value);
      if (found != RC_OK) {
        return found;
      }
      slot.known = true;
    }
    *value = slot.value;
    return RC_OK;
  }

 private:
  struct Slot {
    Value value;
    bool known;
  };
  static constexpr int kMost = 64;  // more than any machine has; the values of others are read by every call

  std::mutex mutex_;
  Slot slots_[kMost] = {};
};

rc_status read_device(DeviceLimits* limits);

}  // namespace rc
