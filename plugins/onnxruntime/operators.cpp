#include "operators.h"

#include <algorithm>
#include <array>
#include <string>

#include "operators_cuda.h"
#include "rc/cpu.h"

namespace rc {
namespace {

// ONNX Runtime's own threads.
rc_parallel threads_of(const Call& call) {
  const auto run = [](void* pool, void (*task)(void*, std::size_t), std::size_t count, void* argument) {
    const auto* context = static_cast<const OrtKernelContext*>(pool);
    // It fails only without a context, which every kernel has.
    ort().ReleaseStatus(ort().KernelContext_ParallelFor(context, task, count, 0, argument));
  };
  return {const_cast<OrtKernelContext*>(call.context), run};
}

rc_status gclu_on_cpu(const Call& call) {
  const rc_parallel threads = threads_of(call);
  return rc_cpu_gclu(call.inputs[0], call.output, elements(call.shapes[0]), call.type, call.attributes.approximate,
                     &threads);
}

rc_status calibration_on_cpu(const Call& call) {
  const rc_parallel threads = threads_of(call);
  const rc_calibration operands = calibration_of(call);
  return rc_cpu_response_calibration(&operands, &threads);
}

rc_status residual_on_cpu(const Call& call) {
  const rc_parallel threads = threads_of(call);
  const rc_calibration operands = calibration_of(call);
  return rc_cpu_calibrated_residual(&operands, call.inputs[3], &threads);
}

rc_status tail_on_cpu(const Call& call) {
  const rc_parallel threads = threads_of(call);
  rc_tail operands = tail_of(call);
  if (operands.channels % call.attributes.block != 0) {
    throw std::invalid_argument("A has " + std::to_string(operands.channels) +
                                " channels, which do not fill blocks of " + std::to_string(call.attributes.block));
  }
  const std::size_t bytes = rc_cpu_calibrated_tail_workspace(operands.batch, operands.channels, operands.hidden);
  std::vector<float> workspace(bytes / sizeof(float));
  operands.workspace = workspace.data();
  return rc_cpu_calibrated_tail(&operands, call.attributes.block, &threads);
}

}  // namespace

const std::vector<Operator> kOperators = {
    {"GCLU", 1, contract::check_gclu, gclu_on_cpu, gclu_on_cuda},
    {"ResponseCalibration", 3, contract::check_calibration, calibration_on_cpu, calibration_on_cuda},
    {"CalibratedResidual", 4, contract::check_residual, residual_on_cpu, residual_on_cuda},
    {"CalibratedTail", 6, contract::check_tail, tail_on_cpu, tail_on_cuda},
};

void Operator::check_shapes(const std::vector<Shape>& shapes) const {
  constexpr std::size_t kMostInputs = 6;
  std::array<contract::Sizes, kMostInputs> sizes{};
  std::transform(shapes.begin(), shapes.end(), sizes.begin(), sizes_of);
  check_inputs(sizes.data());
}

rc_calibration calibration_of(const Call& call) {
  const Shape& a = call.shapes[0];
  rc_calibration operands = {};
  operands.a = call.inputs[0];
  operands.mu = call.inputs[1];
  operands.log_var = call.inputs[2];
  operands.y = call.output;
  operands.batch = a[0];
  operands.channels = a[1];
  operands.positions = elements(a, 2);
  operands.epsilon = call.attributes.epsilon;
  operands.type = call.type;
  return operands;
}

rc_tail tail_of(const Call& call) {
  const Shape& a = call.shapes[0];
  rc_tail operands = {};
  operands.a = call.inputs[0];
  operands.shortcut = call.inputs[1];
  operands.w1 = call.inputs[2];
  operands.b1 = call.inputs[3];
  operands.w2 = call.inputs[4];
  operands.b2 = call.inputs[5];
  operands.y = call.output;
  operands.batch = a[0];
  operands.channels = a[1];
  operands.positions = elements(a, 2);
  operands.hidden = call.shapes[2][0];
  operands.epsilon = call.attributes.epsilon;
  operands.type = call.type;
  return operands;
}

}  // namespace rc
