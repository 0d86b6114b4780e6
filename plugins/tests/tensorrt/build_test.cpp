// What the builder asks of a plugin: shapes, types, formats, workspace.

#include "harness.h"

namespace rc::test {
namespace {

using nvinfer1::DataType;
using nvinfer1::TensorFormat;

struct Operator {
  const char* name;
  std::vector<Shape> inputs;  // -1: a dynamic batch
};

const Operator kOperators[] = {
    {"GCLU", {{-1, 16, 32, 32}}},
    {"ResponseCalibration", {{-1, 16, 32, 32}, {-1, 16}, {-1, 16}}},
    {"CalibratedResidual", {{-1, 16, 32, 32}, {-1, 16}, {-1, 16}, {-1, 16, 32, 32}}},
    {"CalibratedTail", {{-1, 16, 32, 32}, {-1, 16, 32, 32}, {4, 16}, {4}, {32, 4}, {32}}},
};

class Building : public Plugins {
 protected:
  // getOutputShapes's status for these inputs; `out` becomes what it found.
  std::int32_t shapes(nvinfer1::IPluginV3& plugin, const std::vector<Shape>& inputs, nvinfer1::DimsExprs* out) {
    std::vector<nvinfer1::DimsExprs> in;
    for (const Shape& shape : inputs) {
      in.push_back(builder.shape(shape));
    }
    return build_of(plugin).getOutputShapes(in.data(), static_cast<std::int32_t>(in.size()), nullptr, 0, out, 1,
                                            builder);
  }

  std::int32_t configured(nvinfer1::IPluginV3& plugin, const std::vector<Shape>& inputs) {
    const auto in = descriptions(inputs);
    const nvinfer1::DynamicPluginTensorDesc out = dynamic_of(inputs[0], inputs[0]);
    return build_of(plugin).configurePlugin(in.data(), static_cast<std::int32_t>(in.size()), &out, 1);
  }

  static std::vector<nvinfer1::DynamicPluginTensorDesc> descriptions(const std::vector<Shape>& inputs,
                                                                     std::int64_t batch = 8) {
    std::vector<nvinfer1::DynamicPluginTensorDesc> in;
    for (const Shape& shape : inputs) {
      Shape largest = shape;
      largest[0] = shape[0] < 0 ? batch : shape[0];
      in.push_back(dynamic_of(shape, largest));
    }
    return in;
  }
};

TEST_F(Building, PluginsSayWhoTheyAre) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = create(op.name);
    EXPECT_STREQ(core_of(*plugin).getPluginName(), op.name);
    EXPECT_STREQ(core_of(*plugin).getPluginVersion(), "1");
    EXPECT_STREQ(core_of(*plugin).getPluginNamespace(), "rc");
    EXPECT_EQ(build_of(*plugin).getNbOutputs(), 1);
    EXPECT_EQ(plugin->getCapabilityInterface(static_cast<nvinfer1::PluginCapabilityType>(7)), nullptr);
  }
}

TEST_F(Building, TheOutputHasTheFirstInputsShapeWithItsDynamicBatch) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = create(op.name);
    nvinfer1::DimsExprs out = {};
    ASSERT_EQ(shapes(*plugin, op.inputs, &out), 0) << logger.messages;
    ASSERT_EQ(out.nbDims, 4);
    EXPECT_FALSE(out.d[0]->isConstant());
    EXPECT_EQ(out.d[1]->getConstantValue(), 16);
    EXPECT_EQ(out.d[3]->getConstantValue(), 32);
    EXPECT_EQ(configured(*plugin, op.inputs), 0) << logger.messages;
  }
}

TEST_F(Building, AnyRankThatHasChannelsWillDo) {
  const PluginPointer plugin = create("ResponseCalibration");
  nvinfer1::DimsExprs out = {};
  for (const Shape& a : {Shape{2, 3}, {2, 3, 5}, {2, 3, 4, 5, 6}, {-1, -1, -1}}) {
    EXPECT_EQ(shapes(*plugin, {a, {2, 3}, {2, 3}}, &out), 0) << logger.messages;
    EXPECT_EQ(out.nbDims, static_cast<std::int32_t>(a.size()));
  }
  const PluginPointer gclu = create("GCLU");
  EXPECT_EQ(shapes(*gclu, {{}}, &out), 0) << logger.messages;
}

TEST_F(Building, ShapesThatCannotBeAreRefusedInWords) {
  struct Wrong {
    int op;
    int input;
    Shape shape;
    const char* words;
  };
  const Wrong wrongs[] = {
      {1, 0, {16}, "A has shape (16); it needs at least two dimensions"},
      {1, 1, {-1, 16, 1, 1}, "Mu has shape (?, 16, 1, 1) where A's shape asks for (?, 16)"},
      {1, 2, {-1, 17}, "LogVar has shape (?, 17) where A's shape asks for (?, 16)"},
      {2, 3, {-1, 16, 32}, "Shortcut has shape (?, 16, 32) where A's shape asks for (?, 16, 32, 32)"},
      {2, 3, {-1, 16, 32, 33}, "Shortcut has shape (?, 16, 32, 33)"},
      {3, 1, {-1, 8, 32, 32}, "Shortcut has shape (?, 8, 32, 32)"},
      {3, 2, {4, 15}, "W1 has shape (4, 15) where A's shape asks for (4, 16)"},
      {3, 2, {4}, "W1 has shape (4) where A's shape asks for (4, 16)"},
      {3, 3, {5}, "B1 has shape (5) where A's shape asks for (4)"},
      {3, 4, {16, 4}, "W2 has shape (16, 4) where A's shape asks for (32, 4)"},
      {3, 4, {32, 5}, "W2 has shape (32, 5)"},
      {3, 5, {16}, "B2 has shape (16) where A's shape asks for (32)"},
      {3, 5, {32, 1}, "B2 has shape (32, 1)"},
  };
  for (const Wrong& wrong : wrongs) {
    const Operator& op = kOperators[wrong.op];
    const PluginPointer plugin = create(op.name);
    std::vector<Shape> inputs = op.inputs;
    inputs[static_cast<std::size_t>(wrong.input)] = wrong.shape;
    nvinfer1::DimsExprs out = {};
    logger.messages.clear();
    EXPECT_NE(shapes(*plugin, inputs, &out), 0) << wrong.words;
    EXPECT_NE(logger.messages.find(wrong.words), std::string::npos) << logger.messages;
    EXPECT_NE(configured(*plugin, inputs), 0) << wrong.words;
  }
}

TEST_F(Building, WrongNumbersOfTensorsAreRefused) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = create(op.name);
    std::vector<Shape> inputs = op.inputs;
    inputs.push_back({1});
    nvinfer1::DimsExprs out = {};
    EXPECT_NE(shapes(*plugin, inputs, &out), 0);
    EXPECT_NE(configured(*plugin, inputs), 0);
    nvinfer1::IPluginV3OneBuild& build = build_of(*plugin);
    const std::int32_t count = static_cast<std::int32_t>(op.inputs.size());
    const auto in = descriptions(op.inputs);
    EXPECT_NE(build.configurePlugin(nullptr, count, in.data(), 1), 0);
    EXPECT_NE(build.configurePlugin(in.data(), count, nullptr, 1), 0);
    EXPECT_NE(build.getOutputShapes(nullptr, count, nullptr, 0, &out, 1, builder), 0);
    EXPECT_NE(build.getOutputDataTypes(nullptr, 1, nullptr, count), 0);
  }
}

TEST_F(Building, TypesAreTheInputsAndAllTheSame) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = create(op.name);
    const std::int32_t count = static_cast<std::int32_t>(op.inputs.size());
    for (const DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kBF16}) {
      std::vector<DataType> in(op.inputs.size(), type);
      DataType out = DataType::kBOOL;
      EXPECT_EQ(build_of(*plugin).getOutputDataTypes(&out, 1, in.data(), count), 0);
      EXPECT_EQ(out, type);
      if (count > 1) {
        in.back() = type == DataType::kFLOAT ? DataType::kHALF : DataType::kFLOAT;
        EXPECT_NE(build_of(*plugin).getOutputDataTypes(&out, 1, in.data(), count), 0);
      }
    }
    const std::vector<DataType> integers(op.inputs.size(), DataType::kINT32);
    DataType out = DataType::kBOOL;
    EXPECT_NE(build_of(*plugin).getOutputDataTypes(&out, 1, integers.data(), count), 0);
  }
}

// Asks for every type and format at every place, the places before it being right, as the builder does.
TEST_F(Building, EveryFormatCombination) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = create(op.name);
    nvinfer1::IPluginV3OneBuild& build = build_of(*plugin);
    const auto count = static_cast<std::int32_t>(op.inputs.size());
    for (int first = 0; first < nvinfer1::EnumMax<DataType>(); ++first) {
      const auto type = static_cast<DataType>(first);
      const bool computed = type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
      std::vector<nvinfer1::DynamicPluginTensorDesc> tensors(static_cast<std::size_t>(count) + 1,
                                                             dynamic_of({1}, {1}, type));
      for (std::int32_t place = 0; place <= count; ++place) {
        nvinfer1::PluginTensorDesc& desc = tensors[static_cast<std::size_t>(place)].desc;
        for (int t = 0; t < nvinfer1::EnumMax<DataType>(); ++t) {
          for (int f = 0; f < nvinfer1::EnumMax<TensorFormat>(); ++f) {
            desc.type = static_cast<DataType>(t);
            desc.format = static_cast<TensorFormat>(f);
            const bool due = desc.format == TensorFormat::kLINEAR &&
                             (place == 0 ? desc.type == DataType::kFLOAT || desc.type == DataType::kHALF ||
                                               desc.type == DataType::kBF16
                                         : computed && desc.type == type);
            ASSERT_EQ(build.supportsFormatCombination(place, tensors.data(), count, 1), due)
                << op.name << ", place " << place << ", type " << t << " after " << first << ", format " << f;
          }
        }
        desc.type = type;
        desc.format = TensorFormat::kLINEAR;
      }
      EXPECT_FALSE(build.supportsFormatCombination(-1, tensors.data(), count, 1));
      EXPECT_FALSE(build.supportsFormatCombination(count + 1, tensors.data(), count, 1));
      EXPECT_FALSE(build.supportsFormatCombination(0, tensors.data(), count + 1, 1));
      EXPECT_FALSE(build.supportsFormatCombination(0, nullptr, count, 1));
    }
  }
}

TEST_F(Building, OnlyTheWholeTailNeedsWorkspaceAndForItsLargestBatch) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = create(op.name);
    const auto in = descriptions(op.inputs, 64);
    const std::size_t due = std::string(op.name) == "CalibratedTail" ? 64 * 16 * 12 : 0;
    EXPECT_EQ(build_of(*plugin).getWorkspaceSize(in.data(), static_cast<std::int32_t>(in.size()), in.data(), 1), due);
  }
}

}  // namespace
}  // namespace rc::test
