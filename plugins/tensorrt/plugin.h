// IPluginV3 and its creator for any operator of operators.h.

#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "guard.h"
#include "operators.h"
#include "rc/cuda.h"
#include "tensors.h"

namespace rc::trt {

// Functions that only return a constant, or compare numbers, are not behind the guard; all others are.
constexpr const char* kNamespace = "rc";
constexpr const char* kVersion = "1";

template <class Operator>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
  using Dims = nvinfer1::Dims;
  using Inputs = std::array<Dims, Operator::kInputs>;
  static constexpr std::int32_t kOk = 0;
  static constexpr std::int32_t kFailed = 1;

 public:
  explicit Plugin(const Operator& op) : op_(op) {}
  Plugin(const Plugin& other) : Plugin(other.op_) {}
  Plugin& operator=(const Plugin&) = delete;
  ~Plugin() override = default;

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }

  nvinfer1::IPluginV3* clone() noexcept override {
    return guarded<nvinfer1::IPluginV3*>(Operator::kName, nullptr, [&] { return new Plugin(*this); });
  }

  const char* getPluginName() const noexcept override { return Operator::kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  std::int32_t getNbOutputs() const noexcept override { return 1; }

  std::int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                               const nvinfer1::DynamicPluginTensorDesc* out, std::int32_t outputs) noexcept override {
    return checked([&] {
      need_counts(in, inputs, out, outputs);
      check([in](int i) { return in[i].desc.dims; });
    });
  }

  std::int32_t getOutputDataTypes(nvinfer1::DataType* types, std::int32_t outputs, const nvinfer1::DataType* in,
                                  std::int32_t inputs) const noexcept override {
    return checked([&] {
      need_counts(in, inputs, types, outputs);
      for (int i = 0; i < inputs; ++i) {
        need_type(in[i], in[0], i);
      }
      types[0] = in[0];
    });
  }

  std::int32_t getOutputShapes(const nvinfer1::DimsExprs* in, std::int32_t inputs, const nvinfer1::DimsExprs*,
                               std::int32_t, nvinfer1::DimsExprs* out, std::int32_t outputs,
                               nvinfer1::IExprBuilder&) noexcept override {
    return checked([&] {
      need_counts(in, inputs, out, outputs);
      check([in](int i) { return known(in[i]); });
      out[0] = in[0];
    });
  }

  bool supportsFormatCombination(std::int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                 std::int32_t inputs, std::int32_t outputs) noexcept override {
    if (tensors == nullptr || inputs != Operator::kInputs || outputs != 1 || position < 0 ||
        position >= inputs + outputs) {
      return false;
    }
    const nvinfer1::PluginTensorDesc& tensor = tensors[position].desc;
    const nvinfer1::DataType first = tensors[0].desc.type;
    const bool computed =
        first == nvinfer1::DataType::kFLOAT || first == nvinfer1::DataType::kHALF || first == nvinfer1::DataType::kBF16;
    return computed && tensor.type == first && tensor.format == nvinfer1::TensorFormat::kLINEAR;
  }

  std::size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                               const nvinfer1::DynamicPluginTensorDesc* out,
                               std::int32_t outputs) const noexcept override {
    return guarded<std::size_t>(Operator::kName, 0, [&] {
      need_counts(in, inputs, out, outputs);
      const Inputs dims = collect([in](int i) { return in[i].max; });
      return op_.workspace(sizes(dims).data());
    });
  }

  std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, std::int32_t inputs,
                             const nvinfer1::PluginTensorDesc* out, std::int32_t outputs) noexcept override {
    return checked([&] {
      need_counts(in, inputs, out, outputs);
      for (int i = 0; i < inputs; ++i) {
        need_type(in[i].type, in[0].type, i);
      }
      need_type(out[0].type, in[0].type, inputs);
      check([in](int i) { return in[i].dims; });
      need_shape(out[0].dims, in[0].dims);
    });
  }

  std::int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                       const void* const* inputs, void* const* outputs, void* workspace,
                       cudaStream_t stream) noexcept override {
    return checked([&] {
      if (in == nullptr || out == nullptr || inputs == nullptr || outputs == nullptr) {
        throw std::invalid_argument("enqueue got a null pointer");
      }
      const Inputs dims = collect([in](int i) { return in[i].dims; });
      const auto shapes = sizes(dims);
      if (op_.run({shapes.data(), element_type(in[0].type), inputs, outputs[0], workspace, stream}) != RC_OK) {
        throw std::runtime_error(rc_cuda_last_error());
      }
    });
  }

  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }

  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override {
    return guarded<const nvinfer1::PluginFieldCollection*>(Operator::kName, nullptr, [&] {
      for (std::size_t i = 0; i < fields_.size(); ++i) {
        fields_[i] = op_.field_data(static_cast<int>(i));
      }
      collection_ = {static_cast<std::int32_t>(fields_.size()), fields_.data()};
      return &collection_;
    });
  }

 private:
  template <typename Function>
  static std::int32_t checked(const Function& function) noexcept {
    return guarded(Operator::kName, kFailed, [&] {
      function();
      return kOk;
    });
  }

  static void need_counts(const void* in, std::int32_t inputs, const void* out, std::int32_t outputs) {
    if (in == nullptr || out == nullptr) {
      throw std::invalid_argument("the inputs or the outputs are null");
    }
    if (inputs != Operator::kInputs || outputs != 1) {
      throw std::invalid_argument("there are " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
                                  " outputs; there must be " + std::to_string(Operator::kInputs) + " and 1");
    }
  }

  static void need_type(nvinfer1::DataType found, nvinfer1::DataType due, int tensor) {
    element_type(due);
    if (found != due) {
      throw std::invalid_argument("tensor " + std::to_string(tensor) + " has data type " +
                                  std::to_string(static_cast<int>(found)) + "; it must be " +
                                  std::to_string(static_cast<int>(due)));
    }
  }

  static void need_shape(const Dims& found, const Dims& due) {
    if (!contract::fits(sizes_of(found), sizes_of(due))) {
      throw std::invalid_argument("the output has shape " + contract::in_words(sizes_of(found)) + "; it must be " +
                                  contract::in_words(sizes_of(due)));
    }
  }

  template <typename Function>
  static Inputs collect(const Function& dims_of) {
    Inputs dims;
    for (int i = 0; i < Operator::kInputs; ++i) {
      dims[static_cast<std::size_t>(i)] = dims_of(i);
    }
    return dims;
  }

  // The shapes as the operators want them; they lie in `dims`.
  static std::array<contract::Sizes, Operator::kInputs> sizes(const Inputs& dims) {
    std::array<contract::Sizes, Operator::kInputs> views{};
    std::transform(dims.begin(), dims.end(), views.begin(), sizes_of);
    return views;
  }

  template <typename Function>
  static void check(const Function& dims_of) {
    const Inputs dims = collect(dims_of);
    Operator::kCheck(sizes(dims).data());
  }

  // What is known of a shape while a network is built.
  static Dims known(const nvinfer1::DimsExprs& shape) {
    Dims dims = {};
    dims.nbDims = shape.nbDims;
    for (int i = 0; i < shape.nbDims; ++i) {
      dims.d[i] = shape.d[i]->isConstant() ? shape.d[i]->getConstantValue() : contract::kUnknown;
    }
    return dims;
  }

  Operator op_;
  std::array<nvinfer1::PluginField, Operator::kFields.size()> fields_ = {};
  nvinfer1::PluginFieldCollection collection_ = {};
};

template <class Operator>
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  Creator() {
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      fields_[i] = nvinfer1::PluginField(Operator::kFields[i].name, nullptr, Operator::kFields[i].type, 1);
    }
  }

  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* collection,
                                    nvinfer1::TensorRTPhase phase) noexcept override {
    const char* const who = name != nullptr && *name != '\0' ? name : Operator::kName;
    return guarded<nvinfer1::IPluginV3*>(who, nullptr, [&] {
      const Fields fields(collection, phase);
      fields.allow_only(collection_);
      return new Plugin<Operator>(Operator(fields));
    });
  }

  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &collection_; }
  const char* getPluginName() const noexcept override { return Operator::kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

 private:
  std::array<nvinfer1::PluginField, Operator::kFields.size()> fields_;
  nvinfer1::PluginFieldCollection collection_ = {static_cast<std::int32_t>(fields_.size()), fields_.data()};
};

}  // namespace rc::trt
