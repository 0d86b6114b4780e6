#include "harness.h"

#include <algorithm>

namespace rc::test {

Registry* offered_registry = nullptr;
std::int32_t offered_version = NV_TENSORRT_MAJOR;

nvinfer1::DimsExprs ExprBuilder::shape(const std::vector<std::int64_t>& dims) {
  nvinfer1::DimsExprs shape = {};
  shape.nbDims = static_cast<std::int32_t>(dims.size());
  for (std::size_t i = 0; i < dims.size(); ++i) {
    shape.d[i] = constant(dims[i]);
  }
  return shape;
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims = {};
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), dims.d);
  return dims;
}

nvinfer1::PluginTensorDesc desc_of(const Shape& shape, nvinfer1::DataType type) {
  return {dims_of(shape), type, nvinfer1::TensorFormat::kLINEAR, 1.0F};
}

nvinfer1::DynamicPluginTensorDesc dynamic_of(const Shape& shape, const Shape& largest, nvinfer1::DataType type) {
  return {desc_of(shape, type), dims_of(shape), dims_of(largest), dims_of(largest)};
}

Library::Library() : handle_(dlopen(RC_TRT_LIBRARY, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) {
    throw std::runtime_error(dlerror());
  }
}

Library::~Library() { dlclose(handle_); }

std::vector<nvinfer1::IPluginCreatorV3One*> Library::creators() const {
  using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(std::int32_t&);
  std::int32_t count = -1;
  auto* const* const list = reinterpret_cast<GetCreators>(dlsym(handle_, "getCreators"))(count);
  std::vector<nvinfer1::IPluginCreatorV3One*> creators;
  for (std::int32_t i = 0; i < count; ++i) {
    creators.push_back(static_cast<nvinfer1::IPluginCreatorV3One*>(list[i]));
  }
  return creators;
}

nvinfer1::IPluginCreatorV3One* Library::creator(const std::string& name) const {
  for (nvinfer1::IPluginCreatorV3One* const creator : creators()) {
    if (name == creator->getPluginName()) {
      return creator;
    }
  }
  throw std::runtime_error("there is no creator of " + name);
}

void Library::set_logger_finder(nvinfer1::ILoggerFinder* finder) const {
  reinterpret_cast<void (*)(nvinfer1::ILoggerFinder*)>(dlsym(handle_, "setLoggerFinder"))(finder);
}

PluginPointer Plugins::create(const std::string& name, const FieldList& fields, nvinfer1::TensorRTPhase phase) {
  const nvinfer1::PluginFieldCollection collection = {static_cast<std::int32_t>(fields.size()), fields.data()};
  return PluginPointer(library.creator(name)->createPlugin("the layer", &collection, phase));
}

std::string Plugins::refusal(const std::string& name, const FieldList& fields, nvinfer1::TensorRTPhase phase) {
  logger.messages.clear();
  return create(name, fields, phase) == nullptr ? logger.messages : "it was created";
}

nvinfer1::IPluginV3OneCore& core_of(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneCore*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kCORE));
}

nvinfer1::IPluginV3OneBuild& build_of(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneBuild*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kBUILD));
}

nvinfer1::IPluginV3OneRuntime& runtime_of(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneRuntime*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME));
}

}  // namespace rc::test

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
  return rc::test::offered_registry;
}

extern "C" __attribute__((visibility("default"))) std::int32_t getInferLibMajorVersion() noexcept {
  return rc::test::offered_version;
}
