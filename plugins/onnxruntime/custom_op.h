// The glue between an Operator and ONNX Runtime's OrtCustomOp, for one type of tensor and one execution provider.

#pragma once

#include "operators.h"

namespace rc {

struct Provider {
  const char* name;
  Compute Operator::* compute;  // its kernels
  bool allocates;               // its kernels take memory from ONNX Runtime
  bool inplace;                 // an output may lie where the first input does
  bool blocks;                  // its CalibratedTail knows blocked channels
};

// Registered with ONNX Runtime, which keeps its address: it lives as long as the process.
struct CustomOp : OrtCustomOp {
  CustomOp(const Operator& described, rc_dtype type, const Provider& execution_provider);

  const Operator& description;
  rc_dtype dtype;
  const Provider& provider;
  Compute compute;
};

}  // namespace rc
