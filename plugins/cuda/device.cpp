#include "device.h"

namespace rc {
namespace {

rc_status query(DeviceLimits* limits) {
  int device = 0;
  int shared_bytes = 0;
  int major = 0;
  for (const cudaError_t error :
       {cudaGetDevice(&device), cudaDeviceGetAttribute(&limits->processors, cudaDevAttrMultiProcessorCount, device),
        cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device)}) {
    if (error != cudaSuccess) {
      return checked(error, "reading the device's properties");
    }
  }
  limits->shared_bytes = shared_bytes;
  limits->clusters = major >= 9;
  return RC_OK;
}

}  // namespace

rc_status read_device(DeviceLimits* limits) {
  static PerDevice<DeviceLimits> known;
  return known.get(limits, query);
}

}  // namespace rc
