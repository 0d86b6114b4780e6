#include "operators.h"

#include <string_view>

#include "rc/cuda.h"

namespace rc::trt {
namespace {

rc_calibration calibration(const contract::Sizes* inputs, rc_type type, const void* const* tensors, void* output,
                           float epsilon) {
  return {tensors[0], tensors[1], tensors[2], output, inputs[0][0], inputs[0][1], contract::elements(inputs[0], 2),
          epsilon,    type};
}

}  // namespace

Gclu::Gclu(const Fields& fields)
    : approximate_(contract::approximation_of(fields.text("approximate", contract::kApproximations[RC_NONE]))) {}

nvinfer1::PluginField Gclu::field_data(int index) const {
  const std::string_view name = contract::kApproximations[approximate_];
  return {kFields[static_cast<std::size_t>(index)].name, name.data(), nvinfer1::PluginFieldType::kCHAR,
          static_cast<std::int32_t>(name.size())};
}

rc_status Gclu::run(const contract::Sizes* inputs, rc_type type, const void* const* tensors, void*, void* output,
                    cudaStream_t stream) const {
  return rc_cuda_gclu(tensors[0], output, contract::elements(inputs[0]), type, approximate_, stream);
}

Calibrating::Calibrating(const Fields& fields) : epsilon_(fields.number("epsilon", contract::kDefaultEpsilon)) {
  contract::check_epsilon(epsilon_);
}

nvinfer1::PluginField Calibrating::field_data(int index) const {
  return {kFields[static_cast<std::size_t>(index)].name, &epsilon_, nvinfer1::PluginFieldType::kFLOAT32, 1};
}

rc_status ResponseCalibration::run(const contract::Sizes* inputs, rc_type type, const void* const* tensors, void*,
                                   void* output, cudaStream_t stream) const {
  const rc_calibration operands = calibration(inputs, type, tensors, output, epsilon_);
  return rc_cuda_response_calibration(&operands, stream);
}

rc_status CalibratedResidual::run(const contract::Sizes* inputs, rc_type type, const void* const* tensors, void*,
                                  void* output, cudaStream_t stream) const {
  const rc_calibration operands = calibration(inputs, type, tensors, output, epsilon_);
  return rc_cuda_calibrated_residual(&operands, tensors[3], stream);
}

std::size_t CalibratedTail::workspace(const contract::Sizes* inputs) const {
  return rc_cuda_calibrated_tail_workspace(inputs[0][0], inputs[0][1]);
}

rc_status CalibratedTail::run(const contract::Sizes* inputs, rc_type type, const void* const* tensors, void* workspace,
                              void* output, cudaStream_t stream) const {
  const rc_tail operands = {tensors[0],
                            tensors[1],
                            tensors[2],
                            tensors[3],
                            tensors[4],
                            tensors[5],
                            output,
                            workspace,
                            inputs[0][0],
                            inputs[0][1],
                            contract::elements(inputs[0], 2),
                            inputs[2][0],
                            epsilon_,
                            type};
  return rc_cuda_calibrated_tail(&operands, stream);
}

}  // namespace rc::trt
