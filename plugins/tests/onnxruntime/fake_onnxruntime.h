// An ONNX Runtime for kernels on a device: it registers the operators, makes kernels of them and calls them with
// inputs, an output, a stream and scratch memory of its own. Functions that a kernel has no business with are not
// there: calling one crashes the test.

#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace rc::test {

using Sizes = std::vector<std::int64_t>;

// A call that failed, or not.
struct Outcome {
  OrtErrorCode code = ORT_OK;
  std::string message;
};

// What the runtime's functions answer, and what they were asked for.
struct Fake {
  std::string stream_failure, scratch_failure, allocator_failure;  // empty: none
  std::vector<std::size_t> scratch_bytes;                          // of every request
  int scratch_overrun = 0;                                         // blocks that were written beside
  int live_scratch = 0, live_infos = 0, live_allocators = 0;
};
Fake& fake();

struct Attributes {
  std::map<std::string, std::string> texts;
  std::map<std::string, float> numbers;
};

// Operators as they were registered with the provider.
std::vector<const OrtCustomOp*> registered(const std::string& provider);

// A node of the CUDA provider.
class Node {
 public:
  Node(const std::string& name, ONNXTensorElementDataType type, const Attributes& attributes = {});
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  Outcome created;

  // Inputs and the output by address and shape; the output's shape is what the kernel asks for.
  Outcome run(const std::vector<std::pair<const void*, Sizes>>& inputs, void* output, void* stream);
  Sizes output_shape;

 private:
  const OrtCustomOp* op_;
  void* kernel_ = nullptr;
};

}  // namespace rc::test
