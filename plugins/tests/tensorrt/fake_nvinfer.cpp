// Stands for TensorRT's library where a program has loaded it for itself alone, as Python and Triton do.

#include "fake_registry.h"

#define RC_FAKE extern "C" __attribute__((visibility("default")))

namespace {

rc::test::Registry registry;

}  // namespace

RC_FAKE nvinfer1::IPluginRegistry* getPluginRegistry() noexcept { return &registry; }

RC_FAKE std::int32_t getInferLibMajorVersion() noexcept { return NV_TENSORRT_MAJOR; }

RC_FAKE std::int32_t registered_creators() {
  std::int32_t count = 0;
  registry.getAllCreators(&count);
  return count;
}
