#include "custom_op.h"

#include <memory>
#include <optional>
#include <string>

namespace rc {
namespace {

const CustomOp& self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

ONNXTensorElementDataType element_type(rc_type type) {
  switch (type) {
    case RC_FLOAT16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case RC_BFLOAT16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case RC_FLOAT32:
      break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

// A node of the graph.
struct Node {
  struct Tensor {
    const void* data;
    Shape shape;
  };

  const CustomOp& op;
  Attributes attributes;
  std::unique_ptr<OrtAllocator, void (*)(OrtAllocator*)> allocator;
  std::vector<std::optional<Tensor>> constants;  // by input
};

std::string named(const CustomOp& op, const std::exception& error) {
  return std::string("rc.") + op.description.name + ": " + error.what();
}

// Puts the operator's name before what is wrong with a node.
template <class Body>
OrtStatus* guarded_for(const CustomOp& op, const Body& body) noexcept {
  return guarded([&] {
    try {
      body();
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(named(op, error));
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(named(op, error));
    }
  });
}

bool succeeded(OrtStatus* status) {
  if (status != nullptr) {
    ort().ReleaseStatus(status);
  }
  return status == nullptr;
}

// Whether a node has an attribute of this name. There is no function that says so: it is asked for as every type.
bool has_attribute(const OrtKernelInfo* info, const char* name) {
  float number = 0.0F;
  std::int64_t integer = 0;
  std::size_t length = 0;
  std::size_t numbers = 0;
  std::size_t integers = 0;
  return succeeded(ort().KernelInfoGetAttribute_float(info, name, &number)) ||
         succeeded(ort().KernelInfoGetAttribute_int64(info, name, &integer)) ||
         succeeded(ort().KernelInfoGetAttribute_string(info, name, nullptr, &length)) ||
         succeeded(ort().KernelInfoGetAttributeArray_float(info, name, nullptr, &numbers)) ||
         succeeded(ort().KernelInfoGetAttributeArray_int64(info, name, nullptr, &integers));
}

// An attribute as `read` finds it. One that a node does not have takes its default; one of another type is refused.
template <class Value, class Read>
Value attribute(const OrtKernelInfo* info, const char* name, const char* type, const Value& fallback,
                const Read& read) {
  Value value = fallback;
  if (!succeeded(read(&value)) && has_attribute(info, name)) {
    throw std::invalid_argument(std::string(name) + " must be an attribute of type " + type);
  }
  return value;
}

std::string text_attribute(const OrtKernelInfo* info, const char* name, const std::string& fallback) {
  return attribute(info, name, "STRING", fallback, [&](std::string* value) -> OrtStatus* {
    std::size_t size = 0;
    if (OrtStatus* status = ort().KernelInfoGetAttribute_string(info, name, nullptr, &size)) {
      return status;
    }
    value->resize(size);
    OrtStatus* const status = ort().KernelInfoGetAttribute_string(info, name, value->data(), &size);
    value->resize(size - 1);  // without the terminating zero
    return status;
  });
}

float float_attribute(const OrtKernelInfo* info, const char* name, float fallback) {
  return attribute(info, name, "FLOAT", fallback,
                   [&](float* value) { return ort().KernelInfoGetAttribute_float(info, name, value); });
}

rc_approximation approximation_of(const OrtKernelInfo* info) {
  const std::string fallback(contract::kApproximations[RC_NONE]);
  return contract::approximation_of(text_attribute(info, "approximate", fallback));
}

float epsilon_of(const OrtKernelInfo* info) {
  const float epsilon = float_attribute(info, "epsilon", contract::kDefaultEpsilon);
  contract::check_epsilon(epsilon);
  return epsilon;
}

std::int64_t block_of(const OrtKernelInfo* info, const CustomOp& op) {
  const std::int64_t block = attribute(info, "block", "INT", std::int64_t{1}, [&](std::int64_t* value) {
    return ort().KernelInfoGetAttribute_int64(info, "block", value);
  });
  if (block != 1 && !(op.provider.on_host && (block == 8 || block == 16))) {
    throw std::invalid_argument("block is " + std::to_string(block) + "; the kernels of " + op.provider.name +
                                " do not know such a layout");
  }
  return block;
}

// Reads a tensor's address and shape, which keeps the memory it has.
const void* read(const OrtValue* value, Shape* shape) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(ort().GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owner(
      info, ort().ReleaseTensorTypeAndShapeInfo);
  read_shape(*info, shape);
  void* data = nullptr;
  check(ort().GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  return data;
}

std::optional<Node::Tensor> constant(const OrtKernelInfo* info, std::size_t index) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(ort().KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) {
    return std::nullopt;
  }
  Node::Tensor tensor{};
  tensor.data = read(value, &tensor.shape);
  return tensor;
}

OrtStatus* create(const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
  return guarded_for(self(op), [&] {
    const CustomOp& described = self(op);
    const Attributes attributes{approximation_of(info), epsilon_of(info), block_of(info, described)};
    auto node = std::make_unique<Node>(Node{described, attributes, {nullptr, ort().ReleaseAllocator}, {}});
    node->constants.resize(described.description.inputs);
    if (described.provider.on_host) {
      for (std::size_t i = 0; i < node->constants.size(); ++i) {
        node->constants[i] = constant(info, i);
      }
    } else {
      OrtAllocator* allocator = nullptr;
      check(ort().KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator));
      node->allocator.reset(allocator);
    }
    *kernel = node.release();
  });
}

void compute_node(const Node& node, OrtKernelContext* context) {
  // Kept for the thread's next node: what a Call allocates costs as much as a small kernel.
  static thread_local Call call;
  call.type = node.op.type;
  call.attributes = node.attributes;
  call.context = context;
  call.allocator = node.allocator.get();
  call.inputs.resize(node.op.description.inputs);
  call.shapes.resize(node.op.description.inputs);
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    if (const std::optional<Node::Tensor>& known = node.constants[i]) {
      call.inputs[i] = known->data;
      call.shapes[i] = known->shape;
      continue;
    }
    const OrtValue* value = nullptr;
    check(ort().KernelContext_GetInput(context, i, &value));
    call.inputs[i] = read(value, &call.shapes[i]);
  }
  node.op.description.check_shapes(call.shapes);
  OrtValue* output = nullptr;
  check(ort().KernelContext_GetOutput(context, 0, call.shapes[0].data(), call.shapes[0].size(), &output));
  check(ort().GetTensorMutableData(output, &call.output));
  if (const rc_status status = node.op.compute(call); status != RC_OK) {
    throw std::runtime_error("the kernel answers status " + std::to_string(status));
  }
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const Node& node = *static_cast<const Node*>(kernel);
  return guarded_for(node.op, [&] { compute_node(node, context); });
}

// The output has the first input's shape, names of symbolic dimensions included. Two shapes are left to the run,
// because this interface cannot say them: a size without number and name, and rank 0, which also stands for a rank
// that is not known.
OrtStatus* infer(const OrtCustomOp* op, OrtShapeInferContext* context) {
  return guarded_for(self(op), [&] {
    std::vector<Shape> shapes(self(op).description.inputs);
    bool all_ranks_known = true;
    OrtTensorTypeAndShapeInfo* first = nullptr;
    for (std::size_t i = shapes.size(); i-- > 0;) {
      check(ort().ShapeInferContext_GetInputTypeShape(context, i, &first));
      read_shape(*first, &shapes[i]);
      all_ranks_known = all_ranks_known && !shapes[i].empty();
    }
    if (all_ranks_known) {
      self(op).description.check_shapes(shapes);
    }
    const Shape& shape = shapes.front();
    std::vector<const char*> names(shape.size());
    check(ort().GetSymbolicDimensions(first, names.data(), names.size()));
    bool expressible = !shape.empty();
    for (std::size_t i = 0; i < shape.size(); ++i) {
      expressible = expressible && (shape[i] >= 0 || names[i][0] != '\0');
    }
    if (expressible) {
      check(ort().ShapeInferContext_SetOutputTypeShape(context, 0, first));
    }
  });
}

// Where nothing else reads the first input, the output may take its place.
std::size_t may_inplace(int** inputs, int** outputs) {
  *inputs = new int[1]{0};
  *outputs = new int[1]{0};
  return 1;
}

void release_inplace(int* inputs, int* outputs) {
  delete[] inputs;
  delete[] outputs;
}

}  // namespace

CustomOp::CustomOp(const Operator& described, rc_type element, const Provider& execution_provider)
    : OrtCustomOp{},
      description(described),
      type(element),
      provider(execution_provider),
      compute(described.*execution_provider.compute) {
  version = ORT_API_VERSION;
  GetName = [](const OrtCustomOp* op) { return self(op).description.name; };
  GetExecutionProviderType = [](const OrtCustomOp* op) { return self(op).provider.name; };
  GetInputTypeCount = [](const OrtCustomOp* op) { return self(op).description.inputs; };
  GetInputType = [](const OrtCustomOp* op, std::size_t) { return element_type(self(op).type); };
  GetOutputTypeCount = [](const OrtCustomOp*) { return std::size_t{1}; };
  GetOutputType = [](const OrtCustomOp* op, std::size_t) { return element_type(self(op).type); };
  GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
  GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
  GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return 1; };
  CreateKernelV2 = create;
  KernelComputeV2 = rc::compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Node*>(kernel); };
  InferOutputShapeFn = infer;
  if (provider.on_host) {
    GetMayInplace = may_inplace;
    ReleaseMayInplace = release_inplace;
  }
}

}  // namespace rc
