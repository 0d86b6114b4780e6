// The operators as the plugin template (plugin.h) wants them: a name, the inputs, the attributes, the launch.
//
// An operator has one output, of the shape and type of its first input; all its tensors have one type. Its members:
//   kName, kInputs
//   kCheck            throws std::invalid_argument for shapes that cannot be
//   kFields           names and types of its attributes
//   Operator(fields)  throws std::invalid_argument for attributes that cannot be
//   field_data(i)     the i-th attribute, as a field that stays valid as long as the operator
//   workspace(shapes) bytes that run() needs, by the inputs' shapes
//   run(call)

#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstddef>

#include "fields.h"
#include "rc/contract.h"
#include "rc/types.h"

namespace rc::trt {

struct FieldName {
  const char* name;
  nvinfer1::PluginFieldType type;
};

// One run of an operator, all tensors being of one type.
struct Call {
  const contract::Sizes* shapes;  // of the inputs
  rc_type type;
  const void* const* inputs;
  void* output;
  void* workspace;
  cudaStream_t stream;
};

// Y = ReLU(X) + X Phi(-|X|).
class Gclu {
 public:
  static constexpr const char* kName = "GCLU";
  static constexpr int kInputs = 1;
  static constexpr contract::CheckInputs kCheck = contract::check_gclu;
  static constexpr std::array<FieldName, 1> kFields = {{{"approximate", nvinfer1::PluginFieldType::kCHAR}}};

  explicit Gclu(const Fields& fields);

  nvinfer1::PluginField field_data(int index) const;
  std::size_t workspace(const contract::Sizes*) const { return 0; }
  rc_status run(const Call& call) const;

 private:
  rc_approximation approximate_;
};

// What the calibrating operators share.
class Calibrating {
 public:
  static constexpr std::array<FieldName, 1> kFields = {{{"epsilon", nvinfer1::PluginFieldType::kFLOAT32}}};

  explicit Calibrating(const Fields& fields);

  nvinfer1::PluginField field_data(int index) const;
  std::size_t workspace(const contract::Sizes*) const { return 0; }

 protected:
  float epsilon_;
};

// Y = A + RC(A), of A, Mu, LogVar.
class ResponseCalibration : public Calibrating {
 public:
  static constexpr const char* kName = "ResponseCalibration";
  static constexpr int kInputs = 3;
  static constexpr contract::CheckInputs kCheck = contract::check_calibration;

  using Calibrating::Calibrating;

  rc_status run(const Call& call) const;
};

// Y = ReLU(A + RC(A) + Shortcut), of A, Mu, LogVar, Shortcut.
class CalibratedResidual : public Calibrating {
 public:
  static constexpr const char* kName = "CalibratedResidual";
  static constexpr int kInputs = 4;
  static constexpr contract::CheckInputs kCheck = contract::check_residual;

  using Calibrating::Calibrating;

  rc_status run(const Call& call) const;
};

// The whole tail of a residual block, of A, Shortcut, W1, B1, W2, B2.
class CalibratedTail : public Calibrating {
 public:
  static constexpr const char* kName = "CalibratedTail";
  static constexpr int kInputs = 6;
  static constexpr contract::CheckInputs kCheck = contract::check_tail;

  using Calibrating::Calibrating;

  std::size_t workspace(const contract::Sizes* shapes) const;
  rc_status run(const Call& call) const;
};

}  // namespace rc::trt
