// Loading, registering and unloading the library.

#include <set>

#include "harness.h"

namespace rc::test {
namespace {

const std::set<std::string> kOperators = {"GCLU", "ResponseCalibration", "CalibratedResidual", "CalibratedTail"};

class Loading : public ::testing::Test {
 protected:
  Loading() { offered_registry = &registry; }
  ~Loading() override { offered_registry = nullptr; }

  std::set<std::string> registered() const {
    std::int32_t count = 0;
    auto* const* const creators = registry.getAllCreators(&count);
    std::set<std::string> names;
    for (std::int32_t i = 0; i < count; ++i) {
      names.insert(static_cast<nvinfer1::IPluginCreatorV3One*>(creators[i])->getPluginName());
    }
    return names;
  }

  Registry registry;
};

TEST_F(Loading, RegistersWhereThereIsARegistryAndWithdrawsAtTheEnd) {
  {
    const Library library;
    EXPECT_EQ(registered(), kOperators);
    EXPECT_NE(registry.getCreator("CalibratedTail", "1", "rc"), nullptr);
  }
  EXPECT_TRUE(registered().empty());
}

TEST_F(Loading, ARegistryThatAsksForTheCreatorsGetsThemUnregistered) {
  const Library library;
  const auto creators = library.creators();
  EXPECT_EQ(creators.size(), kOperators.size());
  EXPECT_TRUE(registered().empty());
  for (nvinfer1::IPluginCreatorV3One* const creator : creators) {
    EXPECT_TRUE(registry.registerCreator(*creator, "rc"));
  }
  EXPECT_EQ(library.creators(), creators);
  EXPECT_EQ(registered(), kOperators);  // which the registry now owns
  for (nvinfer1::IPluginCreatorV3One* const creator : creators) {
    EXPECT_TRUE(registry.deregisterCreator(*creator));
  }
}

// Their functions lie at other places in its tables: a call would be one of another function.
TEST_F(Loading, NeitherRegistryNorLoggersOfAnotherVersionAreCalled) {
  offered_version = NV_TENSORRT_MAJOR + 1;
  ::testing::internal::CaptureStderr();
  {
    const Library library;
    EXPECT_TRUE(registered().empty());
    Logger logger;
    LoggerFinder finder(&logger);
    library.set_logger_finder(&finder);
    EXPECT_EQ(library.creator("GCLU")->createPlugin("", nullptr, nvinfer1::TensorRTPhase::kBUILD), nullptr);
    EXPECT_EQ(logger.messages, "");
    library.set_logger_finder(nullptr);
  }
  offered_version = NV_TENSORRT_MAJOR;
  const std::string words = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(words.find("librc_trt: built for TensorRT"), std::string::npos) << words;
  EXPECT_NE(words.find("GCLU: the collection of fields is null"), std::string::npos) << words;
}

TEST(LoadingAlone, WorksWithoutARegistry) {
  offered_registry = nullptr;
  const Library library;
  EXPECT_EQ(library.creators().size(), kOperators.size());
}

TEST(Creators, HaveTheOperatorsNamesVersionAndFields) {
  const Library library;
  std::set<std::string> names;
  for (nvinfer1::IPluginCreatorV3One* const creator : library.creators()) {
    const std::string name = creator->getPluginName();
    names.insert(name);
    EXPECT_STREQ(creator->getPluginVersion(), "1");
    EXPECT_STREQ(creator->getPluginNamespace(), "rc");
    EXPECT_STREQ(creator->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE");
    const nvinfer1::PluginFieldCollection* const fields = creator->getFieldNames();
    ASSERT_EQ(fields->nbFields, 1);
    EXPECT_STREQ(fields->fields[0].name, name == "GCLU" ? "approximate" : "epsilon");
    EXPECT_EQ(fields->fields[0].type,
              name == "GCLU" ? nvinfer1::PluginFieldType::kCHAR : nvinfer1::PluginFieldType::kFLOAT32);
  }
  EXPECT_EQ(names, kOperators);
}

}  // namespace
}  // namespace rc::test
