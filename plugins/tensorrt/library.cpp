// What the library exports, and how it registers itself.
//
// A registry that loads the library asks getCreators() and owns what it gets. A program that only dlopens the library,
// as Triton and ctypes do, asks nothing: for it the library registers its creators while it is loaded, where the
// process has a registry by then. A registry that is asked to load it after all would find its creators taken and
// refuse, so getCreators() first withdraws them. It is not told who asks: a registry of a runtime's own
// (IRuntime::getPluginRegistry) that loads the library takes the creators from the process's registry too, for good. A
// process that wants them in both loads the library with the process's one, the parent of the other.

#include <NvInferRuntime.h>

#include <array>
#include <cstdio>
#include <utility>

#include "plugin.h"
#include "registry.h"
#include "report.h"

namespace rc::trt {
namespace {

#define RC_TEXT_OF(number) #number
#define RC_TEXT(macro) RC_TEXT_OF(macro)
// For `rc-deploy doctor`, which reads libraries as files and loads none.
[[gnu::used]] constexpr char kBuiltFor[] =
    "rc-deploy built this for TensorRT " RC_TEXT(NV_TENSORRT_MAJOR) "." RC_TEXT(NV_TENSORRT_MINOR);

class Library {
 public:
  Library() noexcept : registry_(loaded_registry()) {
    if (registry_ == nullptr) {
      tell_of_another_version();
    } else {
      for (std::size_t i = 0; i < creators_.size(); ++i) {
        registered_[i] = registry_->registerCreator(*creators_[i], kNamespace);
      }
    }
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() { withdraw(); }

  nvinfer1::IPluginCreatorInterface* const* hand_over(std::int32_t& count) noexcept {
    withdraw();
    count = static_cast<std::int32_t>(creators_.size());
    return creators_.data();
  }

 private:
  static void tell_of_another_version() noexcept {
    if (loaded_version() != 0 && !is_callable()) {
      char words[128];
      std::snprintf(words, sizeof words, "built for TensorRT %d, found %d: load it with IPluginRegistry::loadLibrary",
                    NV_TENSORRT_MAJOR, loaded_version());
      report("librc_trt", words);
    }
  }

  void withdraw() noexcept {
    for (std::size_t i = 0; i < creators_.size(); ++i) {
      if (std::exchange(registered_[i], false)) {
        registry_->deregisterCreator(*creators_[i]);
      }
    }
  }

  Creator<Gclu> gclu_;
  Creator<ResponseCalibration> response_calibration_;
  Creator<CalibratedResidual> calibrated_residual_;
  Creator<CalibratedTail> calibrated_tail_;
  std::array<nvinfer1::IPluginCreatorInterface*, 4> creators_ = {&gclu_, &response_calibration_, &calibrated_residual_,
                                                                 &calibrated_tail_};
  nvinfer1::IPluginRegistry* registry_;
  std::array<bool, 4> registered_ = {};
};

Library library;

}  // namespace
}  // namespace rc::trt

#define RC_TRT_EXPORT extern "C" __attribute__((visibility("default")))

RC_TRT_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
  return rc::trt::library.hand_over(count);
}

RC_TRT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { rc::trt::set_logger_finder(finder); }
