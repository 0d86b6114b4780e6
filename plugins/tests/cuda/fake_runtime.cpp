#include "fake_runtime.h"

#include <cuda_runtime_api.h>
#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

#include "calibration.h"
#include "emulation.h"
#include "gclu.h"
#include "tail_steps.h"

namespace rc::test {
namespace {

FakeDevice device;
int device_index = 0;
std::vector<Launch> noted;
Calls asked;
thread_local cudaError_t error = cudaSuccess;
std::map<std::pair<int, const void*>, int> granted;  // shared memory, in bytes, by device and kernel
std::mutex mutex;                                    // of all of these

constexpr int kUngranted = 48 * 1024;  // shared memory that a kernel has without a grant

cudaError_t result(cudaError_t of_call) {
  error = of_call == cudaSuccess ? error : of_call;
  return of_call;
}

// Kernels by their host function, as compiled code registers them before main().
std::map<const void*, std::string>& kernels() {
  static std::map<const void*, std::string> names;
  return names;
}

std::string readable(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 ? name.get() : mangled;
}

// "void rc::(anonymous namespace)::tail_kernel<__half>(...)" as "tail_kernel<__half>".
std::string short_name(const std::string& name) {
  const std::size_t end = name.find("_kernel<") + 7;
  return name.substr(name.rfind(':', end) + 1, name.find(">(", end) + 1 - name.rfind(':', end) - 1);
}

// What a kernel declares as __shared__ itself.
std::int64_t static_bytes(const std::string& kernel) {
  if (kernel.find("calibration_kernel") == 0) {
    return kTablePlanes * sizeof(Coefficient);
  }
  return kernel.find("mean_kernel") == 0 ? kMeanThreads / 32 * sizeof(float) : 0;
}

template <typename Parameter>
const Parameter& at(void** arguments, int index) {
  return *static_cast<const Parameter*>(arguments[index]);
}

template <typename Body>
void run(const Launch& launch, const Body& body) {
  run_grid(launch.blocks, launch.cluster, launch.threads, static_bytes(launch.kernel) + launch.shared_bytes, body);
}

template <typename T, rc_approximation kForm>
void run_gclu(const Launch& launch, void** arguments) {
  run(launch, [&](const HostContext& context, unsigned char*) {
    gclu_thread<T, kForm>(context, at<const T*>(arguments, 0), at<T*>(arguments, 1), at<Vectors>(arguments, 2));
  });
}

template <typename T, bool kResidual, typename Source>
void run_calibration(const Launch& launch, void** arguments) {
  run(launch, [&](const HostContext& context, unsigned char* shared) {
    calibrate_block<T, kResidual>(context, at<CalibrationTensors<T>>(arguments, 0), at<Source>(arguments, 1),
                                  reinterpret_cast<Coefficient*>(shared));
  });
}

template <typename T>
void run_kernel(const Launch& launch, void** arguments) {
  const auto is = [&launch](const char* part) { return launch.kernel.find(part) != std::string::npos; };
  if (is("gclu_kernel")) {
    is("(rc_approximation)1")   ? run_gclu<T, RC_SIGMOID>(launch, arguments)
    : is("(rc_approximation)2") ? run_gclu<T, RC_TANH>(launch, arguments)
                                : run_gclu<T, RC_NONE>(launch, arguments);
  } else if (is("calibration_kernel")) {
    is("Computed") ? run_calibration<T, true, Computed>(launch, arguments)
    : is("true")   ? run_calibration<T, true, FromLogVar<T>>(launch, arguments)
                   : run_calibration<T, false, FromLogVar<T>>(launch, arguments);
  } else if (is("tail_kernel")) {
    run(launch, [&](const HostContext& context, unsigned char* shared) {
      tail_block(context, at<TailTensors<T>>(arguments, 0), at<TailPlan>(arguments, 1), shared);
    });
  } else if (is("mean_kernel")) {
    run(launch, [&](const HostContext& context, unsigned char* shared) {
      mean_block(context, at<const T*>(arguments, 0), at<Vectors>(arguments, 1), at<std::int64_t>(arguments, 2),
                 at<std::int64_t>(arguments, 3), reinterpret_cast<float*>(shared), at<float*>(arguments, 4));
    });
  } else if (is("coefficients_kernel")) {
    run(launch, [&](const HostContext& context, unsigned char* shared) {
      coefficients_block(context, at<TailTensors<T>>(arguments, 0), at<const float*>(arguments, 1),
                         reinterpret_cast<float*>(shared), at<Coefficient*>(arguments, 2));
    });
  } else {
    throw std::logic_error("the emulation does not know " + launch.kernel);
  }
}

cudaError_t launched(const cudaLaunchConfig_t& config, const void* function, void** arguments) {
  Launch launch = {short_name(kernels().at(function)),
                   config.gridDim.x,
                   static_cast<int>(config.blockDim.x),
                   static_cast<std::int64_t>(config.dynamicSmemBytes),
                   1,
                   config.stream};
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    const auto& cluster = attribute.val.clusterDim;
    if (attribute.id != cudaLaunchAttributeClusterDimension || cluster.y != 1 || cluster.z != 1) {
      return cudaErrorInvalidValue;
    }
    launch.cluster = static_cast<int>(cluster.x);
  }
  const auto grant = granted.find({device_index, function});
  const std::int64_t room = grant == granted.end() ? kUngranted - static_bytes(launch.kernel) : grant->second;
  if (launch.shared_bytes > room || launch.blocks < 1 || launch.threads < 32 || launch.threads > 1024 ||
      launch.threads % 32 != 0 || launch.blocks % launch.cluster != 0 || launch.cluster > 8 ||
      (launch.cluster > 1 && device.major < 9)) {
    return cudaErrorInvalidConfiguration;
  }
  if (device.launches_until_failure >= 0 && device.launches_until_failure-- == 0) {
    return cudaErrorLaunchOutOfResources;
  }
  noted.push_back(launch);
  if (device.runs) {
    const auto is = [&launch](const char* type) { return launch.kernel.find(type) != std::string::npos; };
    is("<__half")          ? run_kernel<__half>(launch, arguments)
    : is("<__nv_bfloat16") ? run_kernel<__nv_bfloat16>(launch, arguments)
                           : run_kernel<float>(launch, arguments);
  }
  return cudaSuccess;
}

}  // namespace

void use_device(const FakeDevice& wanted) {
  static std::map<std::tuple<int, int, int, int>, int> indices;
  const auto limits = std::tuple{wanted.processors, wanted.shared_bytes, wanted.major, wanted.compiled_for};
  device_index = indices.try_emplace(limits, static_cast<int>(indices.size())).first->second;
  device = wanted;
  noted.clear();
  asked = {};
  error = cudaSuccess;
}

void enter_context() {
  const std::lock_guard<std::mutex> lock(mutex);
  granted.clear();
}

const std::vector<Launch>& launches() { return noted; }
const Calls& calls() { return asked; }
cudaError_t last_error() { return error; }

}  // namespace rc::test

using rc::test::device;
using Lock = std::lock_guard<std::mutex>;

extern "C" {

cudaError_t cudaGetDevice(int* index) {
  *index = rc::test::device_index;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  const Lock lock(rc::test::mutex);
  ++rc::test::asked.attributes;
  if (index != rc::test::device_index) {
    return rc::test::result(cudaErrorInvalidDevice);
  }
  *value = attribute == cudaDevAttrMultiProcessorCount            ? device.processors
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? device.shared_bytes
           : attribute == cudaDevAttrComputeCapabilityMajor       ? device.major
                                                                  : -1;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const Lock lock(rc::test::mutex);
  ++rc::test::asked.grants;
  const std::int64_t of_its_own = rc::test::static_bytes(rc::test::short_name(rc::test::kernels().at(function)));
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || of_its_own + value > device.shared_bytes) {
    return rc::test::result(cudaErrorInvalidValue);
  }
  rc::test::granted[{rc::test::device_index, function}] = value;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  const Lock lock(rc::test::mutex);
  ++rc::test::asked.attributes;
  attributes->ptxVersion = device.compiled_for;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  const Lock lock(rc::test::mutex);
  return rc::test::result(rc::test::launched(*config, function, arguments));
}

cudaError_t cudaGetLastError() { return std::exchange(rc::test::error, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t) { return "words for an error"; }
const char* cudaGetErrorName(cudaError_t) { return "itsName"; }

// What compiled code calls to make its kernels known.
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, void*, void*, void*, void*,
                            int*) {
  rc::test::kernels()[function] = rc::test::readable(name);
}

// Of launches by <<< >>>, of which there are none.
unsigned __cudaPopCallConfiguration(void*, void*, std::size_t*, void*) { std::abort(); }
cudaError_t __cudaGetKernel(void*, const void*) { std::abort(); }
cudaError_t __cudaLaunchKernel(void*, unsigned, unsigned, void*, std::size_t, void*) { std::abort(); }
}
