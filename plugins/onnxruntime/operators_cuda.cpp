// Kernels are queued on ONNX Runtime's stream and never waited for. What a launcher refuses is thrown in its own words.

#include "operators_cuda.h"

#include "rc/cuda.h"

namespace rc {
namespace {

void* stream_of(const Call& call) {
  void* stream = nullptr;
  check(ort().KernelContext_GetGPUComputeStream(call.context, &stream));
  return stream;
}

rc_status queued(rc_status status) {
  if (status != RC_OK) {
    throw std::runtime_error(rc_cuda_last_error());
  }
  return status;
}

// Memory from ONNX Runtime's arena, which knows the stream that it is used on: once freed, only work behind this call's
// is given it again.
class Scratch {
 public:
  Scratch(const Call& call, std::size_t bytes) : allocator_(*call.allocator) {
    const OrtMemoryInfo* memory = nullptr;
    check(ort().AllocatorGetInfo(&allocator_, &memory));
    check(ort().KernelContext_GetScratchBuffer(call.context, memory, bytes, &address_));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (address_ != nullptr) {
      allocator_.Free(&allocator_, address_);
    }
  }

  void* address() const { return address_; }

 private:
  OrtAllocator& allocator_;
  void* address_ = nullptr;
};

}  // namespace

rc_status gclu_on_cuda(const Call& call) {
  return queued(rc_cuda_gclu(call.inputs[0], call.output, elements(call.shapes[0]), call.type,
                             call.attributes.approximate, stream_of(call)));
}

rc_status calibration_on_cuda(const Call& call) {
  const rc_calibration operands = calibration_of(call);
  return queued(rc_cuda_response_calibration(&operands, stream_of(call)));
}

rc_status residual_on_cuda(const Call& call) {
  const rc_calibration operands = calibration_of(call);
  return queued(rc_cuda_calibrated_residual(&operands, call.inputs[3], stream_of(call)));
}

rc_status tail_on_cuda(const Call& call) {
  rc_tail operands = tail_of(call);
  const Scratch workspace(call, rc_cuda_calibrated_tail_workspace(operands.batch, operands.channels));
  operands.workspace = workspace.address();
  return queued(rc_cuda_calibrated_tail(&operands, stream_of(call)));
}

}  // namespace rc
