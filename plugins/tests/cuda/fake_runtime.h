// A CUDA runtime whose device is emulation.h: what the launchers launch is checked against the device's limits, noted,
// and run on the host, so that the C interface computes here as it would on a device.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

namespace rc::test {

struct FakeDevice {
  int processors = 132;
  int shared_bytes = 227 * 1024;
  int major = 9;
  int compiled_for = 90;
  int launches_until_failure = -1;  // none fails
  bool runs = true;                 // false: kernels are only noted
};

struct Launch {
  std::string kernel;  // without namespaces and arguments
  std::int64_t blocks;
  int threads;
  std::int64_t shared_bytes;
  int cluster;
  const void* stream;
};

// What the library has asked of the runtime since use_device().
struct Calls {
  int attributes = 0;  // of devices and of kernels
  int grants = 0;      // of shared memory
};

// The device of the next calls; its launches are in launches(). A device with other limits is another device, with an
// index and grants of its own: those of one that was used before are remembered.
void use_device(const FakeDevice& device);
// Another context on the same device, which has granted nothing yet.
void enter_context();
const std::vector<Launch>& launches();
const Calls& calls();

// The runtime's last error, which a program would take for one of its own.
cudaError_t last_error();

}  // namespace rc::test
