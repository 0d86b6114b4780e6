// The glue between an Operator and ONNX Runtime's OrtCustomOp, for one type of tensor and one execution provider.

#pragma once

#include "operators.h"

namespace rc {

// Registered with ONNX Runtime, which keeps its address: it lives as long as the process.
struct CustomOp : OrtCustomOp {
  CustomOp(const Operator& described, rc_dtype type, const char* execution_provider,
           rc_status (*computation)(const Call& call));

  const Operator& description;
  rc_dtype dtype;
  const char* provider;
  rc_status (*compute)(const Call& call);
};

}  // namespace rc
