// What a running engine asks of a plugin. Without a device the launch itself fails, and must say so.

#include <cuda_runtime_api.h>

#include "harness.h"

namespace rc::test {
namespace {

using nvinfer1::DataType;

bool has_device() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

class Running : public Plugins {
 protected:
  static std::vector<nvinfer1::PluginTensorDesc> tail(std::int64_t batch, DataType type = DataType::kHALF) {
    return {desc_of({batch, 4, 3, 3}, type), desc_of({batch, 4, 3, 3}, type),
            desc_of({2, 4}, type),           desc_of({2}, type),
            desc_of({8, 2}, type),           desc_of({8}, type)};
  }
};

TEST_F(Running, ShapesAreCheckedWhenTheyChange) {
  const PluginPointer plugin = create("CalibratedTail");
  nvinfer1::IPluginV3OneRuntime& runtime = runtime_of(*plugin);
  auto in = tail(5);
  auto out = in[0];
  EXPECT_EQ(runtime.onShapeChange(in.data(), 6, &out, 1), 0) << logger.messages;
  EXPECT_NE(runtime.onShapeChange(in.data(), 5, &out, 1), 0);
  EXPECT_NE(runtime.onShapeChange(nullptr, 6, &out, 1), 0);
  out = desc_of({6, 4, 3, 3});
  EXPECT_NE(runtime.onShapeChange(in.data(), 6, &out, 1), 0);
  EXPECT_NE(logger.messages.find("the output has shape (6, 4, 3, 3); it must be (5, 4, 3, 3)"), std::string::npos)
      << logger.messages;
  out = desc_of({5, 4, 3, 3}, DataType::kFLOAT);
  EXPECT_NE(runtime.onShapeChange(in.data(), 6, &out, 1), 0);
  out = in[0];
  in[4] = desc_of({8, 3});
  EXPECT_NE(runtime.onShapeChange(in.data(), 6, &out, 1), 0);
}

TEST_F(Running, EmptyBatchesNeedNoDevice) {
  const PluginPointer plugin = create("CalibratedTail");
  const auto in = tail(0);
  const void* const inputs[6] = {};
  void* const outputs[1] = {};
  EXPECT_EQ(runtime_of(*plugin).enqueue(in.data(), in.data(), inputs, outputs, nullptr, nullptr), 0) << logger.messages;
}

TEST_F(Running, NullPointersAreRefused) {
  for (const char* const name : {"GCLU", "ResponseCalibration", "CalibratedResidual", "CalibratedTail"}) {
    const PluginPointer plugin = create(name);
    auto in = tail(1);
    const void* const inputs[6] = {};
    void* const outputs[1] = {};
    nvinfer1::IPluginV3OneRuntime& runtime = runtime_of(*plugin);
    logger.messages.clear();
    EXPECT_NE(runtime.enqueue(in.data(), in.data(), inputs, outputs, nullptr, nullptr), 0) << name;
    EXPECT_NE(logger.messages.find(std::string(name) + ": "), std::string::npos) << logger.messages;
    EXPECT_NE(logger.messages.find("is null"), std::string::npos) << logger.messages;
    EXPECT_NE(runtime.enqueue(nullptr, in.data(), inputs, outputs, nullptr, nullptr), 0);
    EXPECT_NE(runtime.enqueue(in.data(), in.data(), nullptr, outputs, nullptr, nullptr), 0);
  }
}

TEST_F(Running, TypesWithoutAKernelAreRefused) {
  const PluginPointer plugin = create("GCLU");
  const auto in = desc_of({1}, DataType::kINT8);
  const void* const inputs[1] = {&in};
  void* const outputs[1] = {};
  EXPECT_NE(runtime_of(*plugin).enqueue(&in, &in, inputs, outputs, nullptr, nullptr), 0);
  EXPECT_NE(logger.messages.find("no kernel for data type"), std::string::npos) << logger.messages;
}

TEST_F(Running, WithoutADeviceTheRuntimesWordsAreLogged) {
  if (has_device()) {
    GTEST_SKIP() << "there is a device";
  }
  alignas(16) unsigned char memory[512];
  const void* const inputs[6] = {memory, memory, memory, memory, memory, memory};
  void* const outputs[1] = {memory};
  const auto in = tail(1);
  const PluginPointer plugin = create("CalibratedTail");
  EXPECT_NE(runtime_of(*plugin).enqueue(in.data(), in.data(), inputs, outputs, memory, nullptr), 0);
  EXPECT_NE(logger.messages.find("CalibratedTail: reading the device's properties: "), std::string::npos)
      << logger.messages;
}

}  // namespace
}  // namespace rc::test
