#include "operators.h"

#include <string_view>

#include "rc/cuda.h"

namespace rc::trt {
namespace {

rc_calibration calibration_of(const Call& call, float epsilon) {
  const contract::Sizes a = call.shapes[0];
  rc_calibration operands = {};
  operands.a = call.inputs[0];
  operands.mu = call.inputs[1];
  operands.log_var = call.inputs[2];
  operands.y = call.output;
  operands.batch = a[0];
  operands.channels = a[1];
  operands.positions = contract::elements(a, 2);
  operands.epsilon = epsilon;
  operands.type = call.type;
  return operands;
}

}  // namespace

Gclu::Gclu(const Fields& fields)
    : approximate_(contract::approximation_of(fields.text("approximate", contract::kApproximations[RC_NONE]))) {}

nvinfer1::PluginField Gclu::field_data(int index) const {
  const std::string_view name = contract::kApproximations[approximate_];
  return {kFields[static_cast<std::size_t>(index)].name, name.data(), nvinfer1::PluginFieldType::kCHAR,
          static_cast<std::int32_t>(name.size())};
}

rc_status Gclu::run(const Call& call) const {
  return rc_cuda_gclu(call.inputs[0], call.output, contract::elements(call.shapes[0]), call.type, approximate_,
                      call.stream);
}

Calibrating::Calibrating(const Fields& fields) : epsilon_(fields.number("epsilon", contract::kDefaultEpsilon)) {
  contract::check_epsilon(epsilon_);
}

nvinfer1::PluginField Calibrating::field_data(int index) const {
  return {kFields[static_cast<std::size_t>(index)].name, &epsilon_, nvinfer1::PluginFieldType::kFLOAT32, 1};
}

rc_status ResponseCalibration::run(const Call& call) const {
  const rc_calibration operands = calibration_of(call, epsilon_);
  return rc_cuda_response_calibration(&operands, call.stream);
}

rc_status CalibratedResidual::run(const Call& call) const {
  const rc_calibration operands = calibration_of(call, epsilon_);
  return rc_cuda_calibrated_residual(&operands, call.inputs[3], call.stream);
}

std::size_t CalibratedTail::workspace(const contract::Sizes* shapes) const {
  return rc_cuda_calibrated_tail_workspace(shapes[0][0], shapes[0][1]);
}

rc_status CalibratedTail::run(const Call& call) const {
  const contract::Sizes a = call.shapes[0];
  rc_tail operands = {};
  operands.a = call.inputs[0];
  operands.shortcut = call.inputs[1];
  operands.w1 = call.inputs[2];
  operands.b1 = call.inputs[3];
  operands.w2 = call.inputs[4];
  operands.b2 = call.inputs[5];
  operands.y = call.output;
  operands.workspace = call.workspace;
  operands.batch = a[0];
  operands.channels = a[1];
  operands.positions = contract::elements(a, 2);
  operands.hidden = call.shapes[2][0];
  operands.epsilon = epsilon_;
  operands.type = call.type;
  return rc_cuda_calibrated_tail(&operands, call.stream);
}

}  // namespace rc::trt
