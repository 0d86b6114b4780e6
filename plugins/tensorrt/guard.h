// The wall between C++ and the callers of noexcept interfaces: what is thrown behind it becomes a message and a value.

#pragma once

#include <exception>
#include <utility>

#include "report.h"

namespace rc::trt {

// function(), or `failure` where it throws.
template <typename Result, typename Function>
Result guarded(const char* who, Result failure, const Function& function) noexcept {
  try {
    return function();
  } catch (const std::exception& error) {
    report(who, error.what());
  } catch (...) {
    report(who, "an exception of unknown type");
  }
  return failure;
}

}  // namespace rc::trt
