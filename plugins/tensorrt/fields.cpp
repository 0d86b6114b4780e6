#include "fields.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace rc::trt {
namespace {

[[noreturn]] void refuse(const std::string& words) { throw std::invalid_argument(words); }

}  // namespace

Fields::Fields(const nvinfer1::PluginFieldCollection* collection, nvinfer1::TensorRTPhase phase)
    : begin_(collection == nullptr ? nullptr : collection->fields),
      end_(begin_),
      complete_(phase == nvinfer1::TensorRTPhase::kRUNTIME) {
  if (collection == nullptr) {
    refuse("the collection of fields is null");
  }
  if (collection->nbFields < 0 || (collection->nbFields > 0 && begin_ == nullptr)) {
    refuse("the collection of fields says that it holds " + std::to_string(collection->nbFields) + " at no address");
  }
  end_ = begin_ + collection->nbFields;
  for (const nvinfer1::PluginField* field = begin_; field != end_; ++field) {
    if (field->name == nullptr) {
      refuse("a field has no name");
    }
  }
}

void Fields::allow_only(const nvinfer1::PluginFieldCollection& known) const {
  for (const nvinfer1::PluginField* field = begin_; field != end_; ++field) {
    bool found = false;
    for (int i = 0; i < known.nbFields; ++i) {
      found = found || std::strcmp(field->name, known.fields[i].name) == 0;
    }
    // How a node says which plugin it wants; not an attribute of the operator.
    const bool address =
        std::strcmp(field->name, "plugin_namespace") == 0 || std::strcmp(field->name, "plugin_version") == 0;
    if (!found && !address) {
      refuse("there is no field '" + std::string(field->name) + "'");
    }
  }
}

const nvinfer1::PluginField* Fields::find(const char* name, nvinfer1::PluginFieldType type) const {
  for (const nvinfer1::PluginField* field = begin_; field != end_; ++field) {
    if (std::strcmp(field->name, name) != 0) {
      continue;
    }
    if (field->type != type) {
      refuse("field '" + std::string(name) + "' has type " + std::to_string(static_cast<int>(field->type)) +
             "; it must be " + std::to_string(static_cast<int>(type)));
    }
    if (field->length < 0 || (field->data == nullptr && field->length > 0)) {
      refuse("field '" + std::string(name) + "' has no data");
    }
    return field;
  }
  if (complete_) {
    refuse("the engine has no field '" + std::string(name) + "': another version of this plugin wrote it");
  }
  return nullptr;
}

float Fields::number(const char* name, float otherwise) const {
  const nvinfer1::PluginField* const field = find(name, nvinfer1::PluginFieldType::kFLOAT32);
  if (field == nullptr) {
    return otherwise;
  }
  if (field->length != 1) {
    refuse("field '" + std::string(name) + "' holds " + std::to_string(field->length) + " numbers; it must be one");
  }
  float value = 0.0F;
  std::memcpy(&value, field->data, sizeof value);
  return value;
}

std::string_view Fields::text(const char* name, std::string_view otherwise) const {
  const nvinfer1::PluginField* const field = find(name, nvinfer1::PluginFieldType::kCHAR);
  if (field == nullptr) {
    return otherwise;
  }
  const std::string_view characters(static_cast<const char*>(field->data), static_cast<std::size_t>(field->length));
  return characters.substr(0, characters.find('\0'));
}

}  // namespace rc::trt
