#include "operators.h"

#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "rc/cuda.h"
#include "shapes.h"

namespace rc::trt {
namespace {

constexpr float kDefaultEpsilon = 1e-5F;
constexpr std::string_view kApproximations[] = {"none", "sigmoid", "tanh"};  // in rc_approximation's order

rc_approximation approximation(std::string_view name) {
  for (int i = 0; i < 3; ++i) {
    if (kApproximations[i] == name) {
      return static_cast<rc_approximation>(i);
    }
  }
  throw std::invalid_argument("approximate is '" + std::string(name) + "'; it must be 'none', 'sigmoid' or 'tanh'");
}

// A (N, C, *), Mu and LogVar (N, C).
void check_calibration(const nvinfer1::Dims* inputs) {
  need_planes("A", inputs[0]);
  for (const auto& [name, dims] : {std::pair{"Mu", inputs[1]}, {"LogVar", inputs[2]}}) {
    need_rank(name, dims, 2);
    need_equal((std::string("samples of ") + name).c_str(), dims.d[0], inputs[0].d[0]);
    need_equal((std::string("channels of ") + name).c_str(), dims.d[1], inputs[0].d[1]);
  }
}

rc_calibration calibration(const nvinfer1::Dims* inputs, rc_type type, const void* const* tensors, void* output,
                           float epsilon) {
  return {tensors[0], tensors[1], tensors[2], output, inputs[0].d[0], inputs[0].d[1], elements(inputs[0], 2),
          epsilon,    type};
}

}  // namespace

Gclu::Gclu(const Fields& fields) : approximate_(approximation(fields.text("approximate", kApproximations[0]))) {}

nvinfer1::PluginField Gclu::field_data(int index) const {
  const std::string_view name = kApproximations[approximate_];
  return {kFields[static_cast<std::size_t>(index)].name, name.data(), nvinfer1::PluginFieldType::kCHAR,
          static_cast<std::int32_t>(name.size())};
}

void Gclu::check(const nvinfer1::Dims*) const {}

rc_status Gclu::run(const nvinfer1::Dims* inputs, rc_type type, const void* const* tensors, void*, void* output,
                    cudaStream_t stream) const {
  return rc_cuda_gclu(tensors[0], output, elements(inputs[0]), type, approximate_, stream);
}

Calibrating::Calibrating(const Fields& fields) : epsilon_(fields.number("epsilon", kDefaultEpsilon)) {
  if (!(epsilon_ > 0.0F) || std::isinf(epsilon_)) {
    char words[64];
    std::snprintf(words, sizeof words, "epsilon is %g; it must be positive and finite", static_cast<double>(epsilon_));
    throw std::invalid_argument(words);
  }
}

nvinfer1::PluginField Calibrating::field_data(int index) const {
  return {kFields[static_cast<std::size_t>(index)].name, &epsilon_, nvinfer1::PluginFieldType::kFLOAT32, 1};
}

void ResponseCalibration::check(const nvinfer1::Dims* inputs) const { check_calibration(inputs); }

rc_status ResponseCalibration::run(const nvinfer1::Dims* inputs, rc_type type, const void* const* tensors, void*,
                                   void* output, cudaStream_t stream) const {
  const rc_calibration operands = calibration(inputs, type, tensors, output, epsilon_);
  return rc_cuda_response_calibration(&operands, stream);
}

void CalibratedResidual::check(const nvinfer1::Dims* inputs) const {
  check_calibration(inputs);
  need_like("Shortcut", inputs[3], inputs[0]);
}

rc_status CalibratedResidual::run(const nvinfer1::Dims* inputs, rc_type type, const void* const* tensors, void*,
                                  void* output, cudaStream_t stream) const {
  const rc_calibration operands = calibration(inputs, type, tensors, output, epsilon_);
  return rc_cuda_calibrated_residual(&operands, tensors[3], stream);
}

void CalibratedTail::check(const nvinfer1::Dims* inputs) const {
  need_planes("A", inputs[0]);
  need_like("Shortcut", inputs[1], inputs[0]);
  need_rank("W1", inputs[2], 2);
  need_rank("B1", inputs[3], 1);
  need_rank("W2", inputs[4], 2);
  need_rank("B2", inputs[5], 1);
  const std::int64_t channels = inputs[0].d[1];
  const std::int64_t twice = channels == kUnknown ? kUnknown : 2 * channels;
  need_equal("columns of W1", inputs[2].d[1], channels);
  need_equal("length of B1", inputs[3].d[0], inputs[2].d[0]);
  need_equal("rows of W2", inputs[4].d[0], twice);
  need_equal("columns of W2", inputs[4].d[1], inputs[2].d[0]);
  need_equal("length of B2", inputs[5].d[0], twice);
}

std::size_t CalibratedTail::workspace(const nvinfer1::Dims* inputs) const {
  return rc_cuda_calibrated_tail_workspace(inputs[0].d[0], inputs[0].d[1]);
}

rc_status CalibratedTail::run(const nvinfer1::Dims* inputs, rc_type type, const void* const* tensors, void* workspace,
                              void* output, cudaStream_t stream) const {
  const rc_tail operands = {tensors[0],
                            tensors[1],
                            tensors[2],
                            tensors[3],
                            tensors[4],
                            tensors[5],
                            output,
                            workspace,
                            inputs[0].d[0],
                            inputs[0].d[1],
                            elements(inputs[0], 2),
                            inputs[2].d[0],
                            epsilon_,
                            type};
  return rc_cuda_calibrated_tail(&operands, stream);
}

}  // namespace rc::trt
