// The rc operators as ONNX Runtime sees them: names, inputs, attributes, what shapes fit, and the kernel of each
// execution provider. Every operator has one output, of the type and shape of its first input.

#pragma once

#include "rc/types.h"
#include "runtime.h"

namespace rc {

struct Attributes {
  rc_approximation approximate;
  float epsilon;
  std::int64_t block;  // of CalibratedTail, see rc/cpu.h; 1 is the layout of ONNX
};

// One computation: inputs and output in the memory of the kernel's execution provider.
struct Call {
  rc_type type;
  Attributes attributes;
  std::vector<const void*> inputs;
  std::vector<Shape> shapes;  // of the inputs
  void* output;
  const OrtKernelContext* context;
  OrtAllocator* allocator;  // of the provider's memory; null for the CPU's kernels, which need none
};

using Compute = rc_status (*)(const Call& call);

struct Operator {
  const char* name;
  std::size_t inputs;
  contract::CheckInputs check_inputs;
  Compute compute_on_cpu;
  Compute compute_on_cuda;  // null where this library was built without a CUDA compiler

  // Throws std::invalid_argument in words where the inputs' shapes do not fit each other.
  void check_shapes(const std::vector<Shape>& shapes) const;
};

extern const std::vector<Operator> kOperators;

// The operands of a call; a tail's still lack their workspace.
rc_calibration calibration_of(const Call& call);
rc_tail tail_of(const Call& call);

}  // namespace rc
