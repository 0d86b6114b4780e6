// From fields to a plugin, and back.

#include <cmath>
#include <limits>

#include "harness.h"

namespace rc::test {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

const char* const kCalibrating[] = {"ResponseCalibration", "CalibratedResidual", "CalibratedTail"};

PluginField text(const char* characters, std::size_t length) {
  return {"approximate", characters, PluginFieldType::kCHAR, static_cast<std::int32_t>(length)};
}

PluginField number(const float& value) { return {"epsilon", &value, PluginFieldType::kFLOAT32, 1}; }

// What a plugin writes into an engine.
std::string written_text(nvinfer1::IPluginV3& plugin) {
  const nvinfer1::PluginFieldCollection* const fields = runtime_of(plugin).getFieldsToSerialize();
  EXPECT_EQ(fields->nbFields, 1);
  EXPECT_STREQ(fields->fields[0].name, "approximate");
  EXPECT_EQ(fields->fields[0].type, PluginFieldType::kCHAR);
  return {static_cast<const char*>(fields->fields[0].data), static_cast<std::size_t>(fields->fields[0].length)};
}

float written_number(nvinfer1::IPluginV3& plugin) {
  const nvinfer1::PluginFieldCollection* const fields = runtime_of(plugin).getFieldsToSerialize();
  EXPECT_EQ(fields->nbFields, 1);
  EXPECT_STREQ(fields->fields[0].name, "epsilon");
  EXPECT_EQ(fields->fields[0].type, PluginFieldType::kFLOAT32);
  EXPECT_EQ(fields->fields[0].length, 1);
  return *static_cast<const float*>(fields->fields[0].data);
}

// The same plugin by way of an engine.
PluginPointer restored(nvinfer1::IPluginCreatorV3One& creator, nvinfer1::IPluginV3& plugin) {
  return PluginPointer(creator.createPlugin("", runtime_of(plugin).getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
}

TEST_F(Plugins, ApproximationsWithAndWithoutATerminator) {
  for (const std::string name : {"none", "sigmoid", "tanh"}) {
    const std::string longer = name + "garbage";
    for (const PluginField& field : {text(longer.c_str(), name.size()), text(name.c_str(), name.size() + 1)}) {
      const PluginPointer plugin = create("GCLU", {field});
      ASSERT_NE(plugin, nullptr) << logger.messages;
      EXPECT_EQ(written_text(*plugin), name);
      const PluginPointer again = restored(*library.creator("GCLU"), *plugin);
      ASSERT_NE(again, nullptr) << logger.messages;
      EXPECT_EQ(written_text(*again), name);
    }
  }
}

TEST_F(Plugins, EpsilonsPassThroughAnEngineToTheLastBit) {
  for (const char* const name : kCalibrating) {
    for (const float epsilon : {1e-5F, std::nextafter(1e-5F, 1.0F), 1e-45F, 3.4e38F}) {
      const PluginPointer plugin = create(name, {number(epsilon)});
      ASSERT_NE(plugin, nullptr) << logger.messages;
      const PluginPointer again = restored(*library.creator(name), *plugin);
      ASSERT_NE(again, nullptr) << logger.messages;
      EXPECT_EQ(written_number(*again), epsilon);
    }
  }
}

TEST_F(Plugins, FieldsMayBeLeftOutOfANetworkButNotOfAnEngine) {
  const PluginPointer gclu = create("GCLU");
  ASSERT_NE(gclu, nullptr);
  EXPECT_EQ(written_text(*gclu), "none");
  EXPECT_NE(refusal("GCLU", {}, TensorRTPhase::kRUNTIME).find("no field 'approximate'"), std::string::npos);
  for (const char* const name : kCalibrating) {
    const PluginPointer plugin = create(name);
    ASSERT_NE(plugin, nullptr);
    EXPECT_EQ(written_number(*plugin), 1e-5F);
    EXPECT_NE(refusal(name, {}, TensorRTPhase::kRUNTIME).find("no field 'epsilon'"), std::string::npos);
  }
}

TEST_F(Plugins, HowANodeNamesItsPluginIsNoField) {
  EXPECT_NE(create("GCLU", {{"plugin_namespace", "rc", PluginFieldType::kCHAR, 2},
                            {"plugin_version", "1", PluginFieldType::kCHAR, 1},
                            text("tanh", 4)}),
            nullptr);
}

TEST_F(Plugins, WrongFieldsAreRefusedInWords) {
  const float one = 1.0F;
  const double wide = 1.0;
  const float two[] = {1.0F, 2.0F};
  const auto holds = [](const std::string& words, const char* part) { return words.find(part) != std::string::npos; };
  EXPECT_TRUE(holds(refusal("GCLU", {text("exact", 5)}), "the layer: approximate is 'exact'"));
  EXPECT_TRUE(holds(refusal("GCLU", {text("", 0)}), "approximate is ''"));
  EXPECT_TRUE(holds(refusal("GCLU", {text(nullptr, 4)}), "has no data"));
  EXPECT_TRUE(holds(refusal("GCLU", {text("none", static_cast<std::size_t>(-1))}), "has no data"));
  EXPECT_TRUE(holds(refusal("GCLU", {{"approximate", &one, PluginFieldType::kFLOAT32, 1}}), "has type 1"));
  EXPECT_TRUE(holds(refusal("GCLU", {{"aproximate", "tanh", PluginFieldType::kCHAR, 4}}), "no field 'aproximate'"));
  EXPECT_TRUE(holds(refusal("GCLU", {{nullptr, "tanh", PluginFieldType::kCHAR, 4}}), "has no name"));
  for (const char* const name : kCalibrating) {
    EXPECT_TRUE(holds(refusal(name, {{"epsilon", &wide, PluginFieldType::kFLOAT64, 1}}), "has type 2"));
    EXPECT_TRUE(holds(refusal(name, {{"epsilon", two, PluginFieldType::kFLOAT32, 2}}), "must be one"));
    EXPECT_TRUE(holds(refusal(name, {{"epsilon", nullptr, PluginFieldType::kFLOAT32, 1}}), "has no data"));
    for (const float epsilon : {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::nanf("")}) {
      EXPECT_TRUE(holds(refusal(name, {number(epsilon)}), "must be positive and finite")) << epsilon;
    }
    EXPECT_TRUE(holds(refusal(name, {number(-1e-9F)}), "epsilon is -1e-09;"));
  }
}

TEST_F(Plugins, ACollectionThatIsNotThereIsRefused) {
  nvinfer1::IPluginCreatorV3One* const creator = library.creator("GCLU");
  EXPECT_EQ(creator->createPlugin("layer", nullptr, TensorRTPhase::kBUILD), nullptr);
  const nvinfer1::PluginFieldCollection lying = {3, nullptr};
  EXPECT_EQ(creator->createPlugin("layer", &lying, TensorRTPhase::kBUILD), nullptr);
  const nvinfer1::PluginFieldCollection empty = {};
  EXPECT_NE(PluginPointer(creator->createPlugin(nullptr, &empty, TensorRTPhase::kBUILD)), nullptr);
}

TEST_F(Plugins, ClonesOutliveWhatTheyWereMadeFrom) {
  const float epsilon = 0.25F;
  PluginPointer plugin = create("CalibratedTail", {number(epsilon)});
  const PluginPointer clone(plugin->clone());
  const PluginPointer attached(runtime_of(*plugin).attachToContext(nullptr));
  const nvinfer1::PluginFieldCollection* const of_plugin = runtime_of(*plugin).getFieldsToSerialize();
  EXPECT_NE(of_plugin->fields, runtime_of(*clone).getFieldsToSerialize()->fields);
  plugin.reset();
  EXPECT_EQ(written_number(*clone), epsilon);
  EXPECT_EQ(written_number(*attached), epsilon);
}

TEST_F(Plugins, WithoutALoggerWordsGoToStandardError) {
  LoggerFinder broken(nullptr);
  for (nvinfer1::ILoggerFinder* const each :
       {static_cast<nvinfer1::ILoggerFinder*>(&broken), static_cast<nvinfer1::ILoggerFinder*>(nullptr)}) {
    library.set_logger_finder(each);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(create("GCLU", {text("exact", 5)}), nullptr);
    EXPECT_NE(::testing::internal::GetCapturedStderr().find("approximate is 'exact'"), std::string::npos);
  }
}

}  // namespace
}  // namespace rc::test
