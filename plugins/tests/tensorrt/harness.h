// What TensorRT's builder has and this machine may not: a registry, a logger, dimension expressions.

#pragma once

#include <NvInfer.h>
#include <dlfcn.h>

#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fake_registry.h"
#include "gtest/gtest.h"

namespace rc::test {

// The registry that getPluginRegistry(), which this program exports, gives to a library that is loaded; may be null.
extern Registry* offered_registry;

// What getInferLibMajorVersion(), which this program exports too, says.
extern std::int32_t offered_version;

// Keeps what plugins log.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity, const char* message) noexcept override { messages += std::string(message) + "\n"; }

  std::string messages;
};

class LoggerFinder : public nvinfer1::ILoggerFinder {
 public:
  explicit LoggerFinder(Logger* logger) : logger_(logger) {}
  virtual ~LoggerFinder() = default;

  nvinfer1::ILogger* findLogger() override {
    if (logger_ == nullptr) {
      throw std::runtime_error("there is no logger");
    }
    return logger_;
  }

 private:
  Logger* logger_;
};

// A dimension: a number, or not known before run time.
class Dimension : public nvinfer1::IDimensionExpr, nvinfer1::apiv::VDimensionExpr {
 public:
  explicit Dimension(std::int64_t value) : value_(value) { mImpl = this; }
  ~Dimension() noexcept override = default;

 private:
  bool isConstant() const override { return value_ >= 0; }
  std::int64_t getConstantValue() const override { return value_; }
  bool isSizeTensor() const override { return false; }

  std::int64_t value_;
};

// Makes dimensions; plugins whose output has an input's shape need no operation of it.
class ExprBuilder : public nvinfer1::IExprBuilder, nvinfer1::apiv::VExprBuilder {
 public:
  ExprBuilder() { mImpl = this; }
  ~ExprBuilder() noexcept override = default;

  // -1 for a dimension that is not known.
  nvinfer1::DimsExprs shape(const std::vector<std::int64_t>& dims);

 private:
  const nvinfer1::IDimensionExpr* constant(std::int64_t value) override { return &made_.emplace_back(value); }
  const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation, const nvinfer1::IDimensionExpr&,
                                            const nvinfer1::IDimensionExpr&) override {
    return nullptr;
  }
  const nvinfer1::IDimensionExpr* declareSizeTensor(std::int32_t, const nvinfer1::IDimensionExpr&,
                                                    const nvinfer1::IDimensionExpr&) override {
    return nullptr;
  }

  std::deque<Dimension> made_;
};

using Shape = std::vector<std::int64_t>;

nvinfer1::Dims dims_of(const Shape& shape);
nvinfer1::PluginTensorDesc desc_of(const Shape& shape, nvinfer1::DataType type = nvinfer1::DataType::kHALF);
nvinfer1::DynamicPluginTensorDesc dynamic_of(const Shape& shape, const Shape& largest,
                                             nvinfer1::DataType type = nvinfer1::DataType::kHALF);

// The plugin library, loaded as a registry loads it.
class Library {
 public:
  Library();
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  std::vector<nvinfer1::IPluginCreatorV3One*> creators() const;
  nvinfer1::IPluginCreatorV3One* creator(const std::string& name) const;
  void set_logger_finder(nvinfer1::ILoggerFinder* finder) const;

 private:
  void* handle_;
};

using PluginPointer = std::unique_ptr<nvinfer1::IPluginV3>;
using FieldList = std::vector<nvinfer1::PluginField>;

// The library with a logger of ours, and plugins from it.
class Plugins : public ::testing::Test {
 protected:
  Plugins() { library.set_logger_finder(&finder); }
  ~Plugins() override { library.set_logger_finder(nullptr); }

  PluginPointer create(const std::string& name, const FieldList& fields = {},
                       nvinfer1::TensorRTPhase phase = nvinfer1::TensorRTPhase::kBUILD);

  // What create() logged, having failed.
  std::string refusal(const std::string& name, const FieldList& fields,
                      nvinfer1::TensorRTPhase phase = nvinfer1::TensorRTPhase::kBUILD);

  Library library;
  Logger logger;
  LoggerFinder finder{&logger};
  ExprBuilder builder;
};

nvinfer1::IPluginV3OneCore& core_of(nvinfer1::IPluginV3& plugin);
nvinfer1::IPluginV3OneBuild& build_of(nvinfer1::IPluginV3& plugin);
nvinfer1::IPluginV3OneRuntime& runtime_of(nvinfer1::IPluginV3& plugin);

}  // namespace rc::test
