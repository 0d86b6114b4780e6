// A plugin registry for the tests.

#pragma once

#include <NvInfer.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace rc::test {

// Refuses a creator whose name it has already, as TensorRT's does.
class Registry : public nvinfer1::IPluginRegistry {
 public:
  ~Registry() noexcept override = default;

  bool registerCreator(nvinfer1::IPluginCreatorInterface& creator, const char* name_space) noexcept override;
  bool deregisterCreator(const nvinfer1::IPluginCreatorInterface& creator) noexcept override;
  nvinfer1::IPluginCreatorInterface* const* getAllCreators(std::int32_t* count) const noexcept override;
  nvinfer1::IPluginCreatorInterface* getCreator(const char* name, const char* version,
                                                const char* name_space) noexcept override;

  void setErrorRecorder(nvinfer1::IErrorRecorder*) noexcept override {}
  nvinfer1::IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
  bool isParentSearchEnabled() const override { return false; }
  void setParentSearchEnabled(bool) override {}
  PluginLibraryHandle loadLibrary(const char*) noexcept override { return nullptr; }
  void deregisterLibrary(PluginLibraryHandle) noexcept override {}
  nvinfer1::IPluginResource* acquirePluginResource(const char*, nvinfer1::IPluginResource*) noexcept override {
    return nullptr;
  }
  std::int32_t releasePluginResource(const char*) noexcept override { return 0; }
#if NV_TENSORRT_MAJOR < 11
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  bool registerCreator(nvinfer1::IPluginCreator&, const char*) noexcept override { return false; }
  bool deregisterCreator(const nvinfer1::IPluginCreator&) noexcept override { return false; }
  nvinfer1::IPluginCreator* const* getPluginCreatorList(std::int32_t*) const noexcept override { return nullptr; }
  nvinfer1::IPluginCreator* getPluginCreator(const char*, const char*, const char*) noexcept override {
    return nullptr;
  }
#pragma GCC diagnostic pop
#endif
  nvinfer1::IPluginCreatorInterface* const* getAllCreatorsRecursive(std::int32_t* count) noexcept override {
    return getAllCreators(count);
  }

 private:
  std::vector<nvinfer1::IPluginCreatorInterface*> creators_;
};

inline bool Registry::registerCreator(nvinfer1::IPluginCreatorInterface& creator, const char* name_space) noexcept {
  const auto* const v3 = static_cast<const nvinfer1::IPluginCreatorV3One*>(&creator);
  if (getCreator(v3->getPluginName(), v3->getPluginVersion(), name_space) != nullptr) {
    return false;
  }
  creators_.push_back(&creator);
  return true;
}

inline bool Registry::deregisterCreator(const nvinfer1::IPluginCreatorInterface& creator) noexcept {
  const auto found = std::find(creators_.begin(), creators_.end(), &creator);
  if (found == creators_.end()) {
    return false;
  }
  creators_.erase(found);
  return true;
}

inline nvinfer1::IPluginCreatorInterface* const* Registry::getAllCreators(std::int32_t* count) const noexcept {
  *count = static_cast<std::int32_t>(creators_.size());
  return creators_.data();
}

inline nvinfer1::IPluginCreatorInterface* Registry::getCreator(const char* name, const char* version,
                                                               const char* name_space) noexcept {
  for (nvinfer1::IPluginCreatorInterface* const creator : creators_) {
    const auto* const v3 = static_cast<const nvinfer1::IPluginCreatorV3One*>(creator);
    if (std::strcmp(v3->getPluginName(), name) == 0 && std::strcmp(v3->getPluginVersion(), version) == 0 &&
        std::strcmp(v3->getPluginNamespace(), name_space) == 0) {
      return creator;
    }
  }
  return nullptr;
}

}  // namespace rc::test
