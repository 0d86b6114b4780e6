#include "report.h"

#include <atomic>
#include <cstdio>

#include "registry.h"

namespace rc::trt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder = nullptr;

nvinfer1::ILogger* find_logger() {
  nvinfer1::ILoggerFinder* const finder = logger_finder.load();
  return finder != nullptr && is_callable() ? finder->findLogger() : loaded_logger();
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder = finder; }

void report(const char* who, const char* what) noexcept {
  char message[512];
  std::snprintf(message, sizeof message, "%s: %s", who, what);
  nvinfer1::ILogger* logger = nullptr;
  try {
    logger = find_logger();
  } catch (...) {  // findLogger() may throw; the message still has somewhere to go
  }
  if (logger != nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, message);
  } else {
    std::fprintf(stderr, "%s\n", message);
  }
}

}  // namespace rc::trt
