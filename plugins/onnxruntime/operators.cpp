#include "operators.h"

#include <algorithm>
#include <initializer_list>

#include "operators_cuda.h"
#include "rc/cpu.h"

namespace rc {
namespace {

template <class Sizes>
std::string in_words(const Sizes& shape) {
  std::string text = "(";
  for (const std::int64_t size : shape) {
    text += (text.size() > 1 ? ", " : "") + (size < 0 ? "?" : std::to_string(size));
  }
  return text + ")";
}

template <class Sizes>
void require(const char* input, const Shape& found, const Sizes& wanted) {
  const auto fits = [](std::int64_t size, std::int64_t other) { return size == other || size < 0 || other < 0; };
  if (!std::equal(found.begin(), found.end(), wanted.begin(), wanted.end(), fits)) {
    throw std::invalid_argument(std::string(input) + " has shape " + in_words(found) + " where A's shape asks for " +
                                in_words(wanted));
  }
}

// What a run checks is written without allocations: it is a good part of a small network's time.
void require(const char* input, const Shape& found, std::initializer_list<std::int64_t> wanted) {
  require<std::initializer_list<std::int64_t>>(input, found, wanted);
}

void require_channels(const Shape& a) {
  if (a.size() < 2) {
    throw std::invalid_argument("A has shape " + in_words(a) + "; it needs at least two dimensions, (N, C, *)");
  }
}

void check_gclu(const std::vector<Shape>&) {}

void check_calibration(const std::vector<Shape>& shapes) {
  const Shape& a = shapes[0];
  require_channels(a);
  require("Mu", shapes[1], {a[0], a[1]});
  require("LogVar", shapes[2], {a[0], a[1]});
}

void check_residual(const std::vector<Shape>& shapes) {
  check_calibration(shapes);
  require("Shortcut", shapes[3], shapes[0]);
}

void check_tail(const std::vector<Shape>& shapes) {
  require_channels(shapes[0]);
  const std::int64_t channels = shapes[0][1];
  const std::int64_t hidden = shapes[2].empty() ? -1 : shapes[2][0];
  const std::int64_t both = channels < 0 ? -1 : 2 * channels;
  require("Shortcut", shapes[1], shapes[0]);
  require("W1", shapes[2], {hidden, channels});
  require("B1", shapes[3], {hidden});
  require("W2", shapes[4], {both, hidden});
  require("B2", shapes[5], {both});
}

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
    {"GCLU", 1, check_gclu, gclu_on_cpu, gclu_on_cuda},
    {"ResponseCalibration", 3, check_calibration, calibration_on_cpu, calibration_on_cuda},
    {"CalibratedResidual", 4, check_residual, residual_on_cpu, residual_on_cuda},
    {"CalibratedTail", 6, check_tail, tail_on_cpu, tail_on_cuda},
};

rc_approximation approximation_of(const std::string& name) {
  if (name == "none") {
    return RC_NONE;
  }
  if (name == "sigmoid") {
    return RC_SIGMOID;
  }
  if (name == "tanh") {
    return RC_TANH;
  }
  throw std::invalid_argument("approximate is '" + name + "'; it must be none, sigmoid or tanh");
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
