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

rc_cuda_calibration calibration_of(const Call& call) {
  const Shape& a = call.shapes[0];
  rc_cuda_calibration operands = {};
  operands.a = call.inputs[0];
  operands.mu = call.inputs[1];
  operands.log_var = call.inputs[2];
  operands.y = call.output;
  operands.batch = a[0];
  operands.channels = a[1];
  operands.positions = elements(a, 2);
  operands.epsilon = call.attributes.epsilon;
  operands.type = call.dtype;
  return operands;
}

}  // namespace

rc_status gclu_on_cuda(const Call& call) {
  return queued(rc_cuda_gclu(call.inputs[0], call.output, elements(call.shapes[0]), call.dtype,
                             call.attributes.approximation, stream_of(call)));
}

rc_status calibration_on_cuda(const Call& call) {
  const rc_cuda_calibration operands = calibration_of(call);
  return queued(rc_cuda_response_calibration(&operands, stream_of(call)));
}

rc_status residual_on_cuda(const Call& call) {
  const rc_cuda_calibration operands = calibration_of(call);
  return queued(rc_cuda_calibrated_residual(&operands, call.inputs[3], stream_of(call)));
}

rc_status tail_on_cuda(const Call& call) {
  const Shape& a = call.shapes[0];
  const Scratch workspace(call, rc_cuda_calibrated_tail_workspace(a[0], a[1]));
  rc_cuda_tail operands = {};
  operands.a = call.inputs[0];
  operands.shortcut = call.inputs[1];
  operands.w1 = call.inputs[2];
  operands.b1 = call.inputs[3];
  operands.w2 = call.inputs[4];
  operands.b2 = call.inputs[5];
  operands.y = call.output;
  operands.workspace = workspace.address();
  operands.batch = a[0];
  operands.channels = a[1];
  operands.positions = elements(a, 2);
  operands.hidden = call.shapes[2][0];
  operands.epsilon = call.attributes.epsilon;
  operands.type = call.dtype;
  return queued(rc_cuda_calibrated_tail(&operands, stream_of(call)));
}

}  // namespace rc
