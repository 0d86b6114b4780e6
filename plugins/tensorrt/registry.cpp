#include "registry.h"

#include <dlfcn.h>

#include <cstring>

namespace rc::trt {
namespace {

constexpr const char* kLibraries[] = {"libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer_lean.so.11",
                                      "libnvinfer_lean.so.10"};

// TensorRT-RTX exports the same names, but its parser aborts the process where a plugin of a node's name is registered.
// Told by the file's own name: the folders on the way to it may be called anything.
bool is_tensorrt_rtx(void* symbol) {
  Dl_info info = {};
  if (dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) {
    return false;
  }
  const char* const slash = std::strrchr(info.dli_fname, '/');
  return std::strstr(slash == nullptr ? info.dli_fname : slash, "tensorrt_rtx") != nullptr;
}

// A symbol of TensorRT: visible to everyone, as in a program linked to it, or in a library that somebody has loaded
// for himself, as Python and Triton do.
void* find(const char* name) {
  void* const global = dlsym(RTLD_DEFAULT, name);
  if (global != nullptr && !is_tensorrt_rtx(global)) {
    return global;
  }
  for (const char* const library : kLibraries) {
    // The reference is kept: a registry that holds creators of ours must not be unloaded before this library.
    void* const handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    void* const symbol = handle == nullptr ? nullptr : dlsym(handle, name);
    if (symbol != nullptr) {
      return symbol;
    }
  }
  return nullptr;
}

template <typename Result>
Result* call(const char* name) noexcept {
  using Function = Result* (*)() noexcept;
  const auto function = is_callable() ? reinterpret_cast<Function>(find(name)) : nullptr;
  return function == nullptr ? nullptr : function();
}

}  // namespace

int loaded_version() noexcept {
  const auto function = reinterpret_cast<std::int32_t (*)() noexcept>(find("getInferLibMajorVersion"));
  return function == nullptr ? 0 : function();
}

bool is_callable() noexcept { return loaded_version() == NV_TENSORRT_MAJOR; }

nvinfer1::IPluginRegistry* loaded_registry() noexcept { return call<nvinfer1::IPluginRegistry>("getPluginRegistry"); }

nvinfer1::ILogger* loaded_logger() noexcept { return call<nvinfer1::ILogger>("getLogger"); }

}  // namespace rc::trt
