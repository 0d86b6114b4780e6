// The glue between an Operator and ONNX Runtime's OrtCustomOp, for one type of tensor and one execution provider.

#pragma once

#include "operators.h"

namespace rc {

struct Provider {
  const char* name;
  Compute Operator::* compute;  // its kernels
  // Tensors lie in the host's memory: constant inputs are read once, an output may take the first input's place, and
  // CalibratedTail knows blocks of channels. Kernels elsewhere do without, and take workspace from ONNX Runtime.
  bool on_host;
};

// Registered with ONNX Runtime, which keeps its address: it lives as long as the process.
struct CustomOp : OrtCustomOp {
  CustomOp(const Operator& described, rc_type element, const Provider& execution_provider);

  const Operator& description;
  rc_type type;
  const Provider& provider;
  Compute compute;
};

}  // namespace rc
