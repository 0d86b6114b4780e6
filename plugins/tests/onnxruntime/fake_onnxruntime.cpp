#include "fake_onnxruntime.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

// The C API names these types and leaves them open.
struct OrtStatus {
  rc::test::Outcome outcome;
};
struct OrtValue {
  void* data;
  rc::test::Sizes shape;
};
struct OrtTensorTypeAndShapeInfo {
  rc::test::Sizes shape;
};
struct OrtKernelInfo {
  rc::test::Attributes attributes;
};
struct OrtKernelContext {
  std::vector<OrtValue> inputs;
  OrtValue output;
  void* stream;
};
struct OrtMemoryInfo {};

namespace rc::test {
namespace {

const OrtMemoryInfo kDeviceMemory;
std::vector<const OrtCustomOp*> operators;

OrtStatus* status(OrtErrorCode code, const char* message) noexcept { return new OrtStatus{{code, message}}; }
OrtStatus* failure(const std::string& words) { return words.empty() ? nullptr : status(ORT_FAIL, words.c_str()); }

Outcome taken(OrtStatus* found) {
  const std::unique_ptr<OrtStatus> owner(found);
  return found == nullptr ? Outcome{} : found->outcome;
}

// Scratch memory is as long as was asked for, at a multiple of 256 bytes as ONNX Runtime's, and all of it is NaN.
constexpr std::size_t kGuard = 256;
constexpr unsigned char kPoison = 0xff;
std::map<void*, std::pair<std::vector<unsigned char>, std::size_t>> scratch;

void* allocated(std::size_t bytes) {
  std::vector<unsigned char> memory(bytes + 3 * kGuard, kPoison);
  auto address = reinterpret_cast<std::uintptr_t>(memory.data()) + kGuard;
  void* const data = reinterpret_cast<void*>(address - address % kGuard + kGuard);
  scratch.emplace(data, std::pair{std::move(memory), bytes});
  ++fake().live_scratch;
  return data;
}

void freed(void* data) {
  const auto found = scratch.find(data);
  if (found == scratch.end()) {
    throw std::logic_error("memory is freed that was not allocated");
  }
  const auto& [memory, bytes] = found->second;
  const std::size_t start = static_cast<std::size_t>(static_cast<unsigned char*>(data) - memory.data());
  const auto poison = [](unsigned char byte) { return byte == kPoison; };
  const auto begin = memory.begin(), first = begin + static_cast<std::ptrdiff_t>(start);
  const bool untouched = std::all_of(begin, first, poison) &&
                         std::all_of(first + static_cast<std::ptrdiff_t>(bytes), memory.end(), poison);
  fake().scratch_overrun += untouched ? 0 : 1;
  scratch.erase(found);
  --fake().live_scratch;
}

// What the kernel holds is a front of the one arena; it may free, and must not allocate behind the streams' back.
struct Allocator : OrtAllocator {
  Allocator() : OrtAllocator{} {
    version = ORT_API_VERSION;
    Free = [](OrtAllocator*, void* data) { freed(data); };
    ++fake().live_allocators;
  }
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  ~Allocator() { --fake().live_allocators; }
};

void add_kernels(OrtApi& api) {
  api.KernelInfoGetAttribute_string = [](const OrtKernelInfo* info, const char* name, char* out,
                                         std::size_t* size) noexcept {
    const auto found = info->attributes.texts.find(name);
    if (found == info->attributes.texts.end()) {
      return status(ORT_FAIL, "no such attribute");
    }
    if (out != nullptr) {
      std::memcpy(out, found->second.c_str(), *size);
    }
    *size = found->second.size() + 1;
    return static_cast<OrtStatus*>(nullptr);
  };
  api.KernelInfoGetAttribute_float = [](const OrtKernelInfo* info, const char* name, float* out) noexcept {
    const auto found = info->attributes.numbers.find(name);
    if (found == info->attributes.numbers.end()) {
      return status(ORT_FAIL, "no such attribute");
    }
    *out = found->second;
    return static_cast<OrtStatus*>(nullptr);
  };
  api.KernelInfoGetAttribute_int64 = [](const OrtKernelInfo*, const char*, std::int64_t*) noexcept {
    return status(ORT_FAIL, "no such attribute");
  };
  api.KernelInfoGetAttributeArray_float = [](const OrtKernelInfo*, const char*, float*, std::size_t*) noexcept {
    return status(ORT_FAIL, "no such attribute");
  };
  api.KernelInfoGetAttributeArray_int64 = [](const OrtKernelInfo*, const char*, std::int64_t*, std::size_t*) noexcept {
    return status(ORT_FAIL, "no such attribute");
  };
  api.KernelInfoGetAllocator = [](const OrtKernelInfo*, OrtMemType type, OrtAllocator** out) noexcept {
    if (type != OrtMemTypeDefault) {
      return status(ORT_INVALID_ARGUMENT, "this is not the device's memory");
    }
    if (fake().allocator_failure.empty()) {
      *out = new Allocator;
    }
    return failure(fake().allocator_failure);
  };
  api.ReleaseAllocator = [](OrtAllocator* allocator) noexcept { delete static_cast<Allocator*>(allocator); };
  api.AllocatorGetInfo = [](const OrtAllocator*, const OrtMemoryInfo** out) noexcept {
    *out = &kDeviceMemory;
    return static_cast<OrtStatus*>(nullptr);
  };
}

void add_tensors(OrtApi& api) {
  api.GetTensorTypeAndShape = [](const OrtValue* value, OrtTensorTypeAndShapeInfo** out) noexcept {
    *out = new OrtTensorTypeAndShapeInfo{value->shape};
    ++fake().live_infos;
    return static_cast<OrtStatus*>(nullptr);
  };
  api.ReleaseTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo* info) noexcept {
    delete info;
    --fake().live_infos;
  };
  api.GetDimensionsCount = [](const OrtTensorTypeAndShapeInfo* info, std::size_t* out) noexcept {
    *out = info->shape.size();
    return static_cast<OrtStatus*>(nullptr);
  };
  api.GetDimensions = [](const OrtTensorTypeAndShapeInfo* info, std::int64_t* out, std::size_t count) noexcept {
    std::copy_n(info->shape.begin(), count, out);
    return static_cast<OrtStatus*>(nullptr);
  };
  api.GetTensorMutableData = [](OrtValue* value, void** out) noexcept {
    *out = value->data;
    return static_cast<OrtStatus*>(nullptr);
  };
}

void add_context(OrtApi& api) {
  api.KernelContext_GetInput = [](const OrtKernelContext* context, std::size_t index, const OrtValue** out) noexcept {
    *out = &context->inputs.at(index);
    return static_cast<OrtStatus*>(nullptr);
  };
  api.KernelContext_GetOutput = [](OrtKernelContext* context, std::size_t index, const std::int64_t* sizes,
                                   std::size_t rank, OrtValue** out) noexcept {
    context->output.shape.assign(sizes, sizes + rank);
    *out = &context->output;
    return index == 0 ? nullptr : status(ORT_INVALID_ARGUMENT, "there is one output");
  };
  api.KernelContext_GetGPUComputeStream = [](const OrtKernelContext* context, void** out) noexcept {
    *out = context->stream;
    return failure(fake().stream_failure);
  };
  api.KernelContext_GetScratchBuffer = [](const OrtKernelContext*, const OrtMemoryInfo* memory, std::size_t bytes,
                                          void** out) noexcept {
    fake().scratch_bytes.push_back(bytes);
    if (memory != &kDeviceMemory) {
      return status(ORT_INVALID_ARGUMENT, "No requested allocator available");
    }
    *out = bytes == 0 || !fake().scratch_failure.empty() ? nullptr : allocated(bytes);
    return failure(fake().scratch_failure);
  };
}

const OrtApi* table(std::uint32_t) noexcept {
  static const OrtApi made = [] {
    OrtApi api;
    std::memset(&api, 0, sizeof api);
    api.CreateStatus = status;
    api.GetErrorMessage = [](const OrtStatus* found) noexcept { return found->outcome.message.c_str(); };
    api.ReleaseStatus = [](OrtStatus* found) noexcept { delete found; };
    api.CreateCustomOpDomain = [](const char*, OrtCustomOpDomain**) noexcept {
      return static_cast<OrtStatus*>(nullptr);
    };
    api.CustomOpDomain_Add = [](OrtCustomOpDomain*, const OrtCustomOp* op) noexcept {
      operators.push_back(op);
      return static_cast<OrtStatus*>(nullptr);
    };
    api.AddCustomOpDomain = [](OrtSessionOptions*, OrtCustomOpDomain*) noexcept {
      return static_cast<OrtStatus*>(nullptr);
    };
    add_kernels(api);
    add_tensors(api);
    add_context(api);
    return api;
  }();
  return &made;
}

}  // namespace

Fake& fake() {
  static Fake state;
  return state;
}

std::vector<const OrtCustomOp*> registered(const std::string& provider) {
  static constexpr OrtApiBase kBase{table, [](void) noexcept { return "1.21.0"; }};
  if (operators.empty() && RegisterCustomOps(nullptr, &kBase) != nullptr) {
    throw std::logic_error("the operators are not registered");
  }
  std::vector<const OrtCustomOp*> found;
  std::copy_if(operators.begin(), operators.end(), std::back_inserter(found),
               [&](const OrtCustomOp* op) { return provider == op->GetExecutionProviderType(op); });
  return found;
}

Node::Node(const std::string& name, ONNXTensorElementDataType type, const Attributes& attributes) {
  const auto all = registered("CUDAExecutionProvider");
  const auto found = std::find_if(all.begin(), all.end(), [&](const OrtCustomOp* op) {
    return name == op->GetName(op) && type == op->GetInputType(op, 0);
  });
  if (found == all.end()) {
    throw std::logic_error("no CUDA kernel of " + name + " is registered");
  }
  op_ = *found;
  const OrtKernelInfo info{attributes};
  created = taken(op_->CreateKernelV2(op_, table(0), &info, &kernel_));
}

Node::~Node() {
  if (kernel_ != nullptr) {
    op_->KernelDestroy(kernel_);
  }
}

Outcome Node::run(const std::vector<std::pair<const void*, Sizes>>& inputs, void* output, void* stream) {
  OrtKernelContext context{{}, {output, {}}, stream};
  for (const auto& [data, shape] : inputs) {
    context.inputs.push_back({const_cast<void*>(data), shape});
  }
  const Outcome outcome = taken(op_->KernelComputeV2(kernel_, &context));
  output_shape = context.output.shape;
  return outcome;
}

}  // namespace rc::test
