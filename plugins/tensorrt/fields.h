// Attributes of a node, as they come from a parser, a program or an engine.

#pragma once

#include <NvInferRuntime.h>

#include <string_view>

namespace rc::trt {

// The fields of a collection by name and type. A field may be left out of a network, where the operator's default
// holds, but not of an engine, which has them all.
//
// Raises std::invalid_argument, saying which field is wrong and how.
class Fields {
 public:
  Fields(const nvinfer1::PluginFieldCollection* collection, nvinfer1::TensorRTPhase phase);

  // Refuse fields that are not among `known`.
  void allow_only(const nvinfer1::PluginFieldCollection& known) const;

  float number(const char* name, float otherwise) const;

  // Characters with or without a terminator.
  std::string_view text(const char* name, std::string_view otherwise) const;

 private:
  // The field, or null where it may be left out and is.
  const nvinfer1::PluginField* find(const char* name, nvinfer1::PluginFieldType type) const;

  const nvinfer1::PluginField* begin_;
  const nvinfer1::PluginField* end_;
  bool complete_;
};

}  // namespace rc::trt
