// What librc_ort does when it is registered: with a runtime that is too old, one that fails, and one that takes it.
// The runtimes are made here: tables with those functions that the library may call.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <onnxruntime_c_api.h>

#include <cstring>
#include <set>
#include <string>
#include <tuple>

namespace {

using Register = OrtStatus* (*)(OrtSessionOptions*, const OrtApiBase*);
using Registered = std::tuple<std::string, ONNXTensorElementDataType, std::string>;

std::string message;
std::multiset<Registered> operators;
std::string domain_name;
int status_storage;
int domain_storage;
int added_domains;
bool domain_fails;

OrtStatus* made_status() { return reinterpret_cast<OrtStatus*>(&status_storage); }

OrtStatus* create_status(OrtErrorCode, const char* text) noexcept {
  message = text;
  return made_status();
}

OrtStatus* create_domain(const char* name, OrtCustomOpDomain** domain) noexcept {
  domain_name = name;
  *domain = reinterpret_cast<OrtCustomOpDomain*>(&domain_storage);
  return nullptr;
}

OrtStatus* add_operator(OrtCustomOpDomain*, const OrtCustomOp* op) noexcept {
  const char* provider = op->GetExecutionProviderType(op);
  EXPECT_EQ(op->version, static_cast<uint32_t>(ORT_API_VERSION));
  EXPECT_EQ(op->GetInputType(op, 0), op->GetOutputType(op, 0));
  operators.emplace(op->GetName(op), op->GetInputType(op, 0), provider);
  return nullptr;
}

OrtStatus* add_domain(OrtSessionOptions*, OrtCustomOpDomain*) noexcept {
  ++added_domains;
  return domain_fails ? create_status(ORT_FAIL, "the domain is taken") : nullptr;
}

const char* error_message(const OrtStatus*) noexcept { return "the domain is taken"; }
void release_status(OrtStatus*) noexcept {}

const OrtApi* table() {
  static const OrtApi api = [] {
    OrtApi functions;
    std::memset(&functions, 0, sizeof functions);
    functions.CreateStatus = create_status;
    functions.GetErrorMessage = error_message;
    functions.ReleaseStatus = release_status;
    functions.CreateCustomOpDomain = create_domain;
    functions.CustomOpDomain_Add = add_operator;
    functions.AddCustomOpDomain = add_domain;
    return functions;
  }();
  return &api;
}

const OrtApi* current_api(uint32_t) noexcept { return table(); }
const OrtApi* old_api(uint32_t version) noexcept { return version <= 20 ? table() : nullptr; }
const char* current_version() noexcept { return "1.21.0"; }
const char* old_version() noexcept { return "1.20.1"; }

constexpr OrtApiBase kCurrent{current_api, current_version};
constexpr OrtApiBase kOld{old_api, old_version};

class Library : public testing::Test {
 protected:
  void SetUp() override {
    void* library = dlopen(RC_ORT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    register_custom_ops = reinterpret_cast<Register>(dlsym(library, "RegisterCustomOps"));
    ASSERT_NE(register_custom_ops, nullptr);
    message.clear();
    added_domains = 0;
    domain_fails = false;
  }

  Register register_custom_ops = nullptr;
};

TEST_F(Library, AnOldRuntimeIsToldSo) {
  EXPECT_EQ(register_custom_ops(nullptr, &kOld), made_status());
  EXPECT_NE(message.find("needs ONNX Runtime 1.21 or later; this is 1.20.1"), std::string::npos) << message;
  EXPECT_EQ(added_domains, 0);
}

// Built with a CUDA compiler, the library has kernels for CUDA too; it is opened here without a CUDA driver.
#ifdef RC_ORT_CUDA
constexpr const char* kProviders[] = {"CPUExecutionProvider", "CUDAExecutionProvider"};
#else
constexpr const char* kProviders[] = {"CPUExecutionProvider"};
#endif

TEST_F(Library, EveryOperatorIsRegisteredOnceForEveryTypeAndProvider) {
  // Twice, as two sessions do: the domain is made once and added to both.
  ASSERT_EQ(register_custom_ops(nullptr, &kCurrent), nullptr);
  ASSERT_EQ(register_custom_ops(nullptr, &kCurrent), nullptr);
  EXPECT_EQ(added_domains, 2);
  EXPECT_EQ(domain_name, "rc");
  std::multiset<Registered> expected;
  for (const char* provider : kProviders) {
    for (const char* name : {"GCLU", "ResponseCalibration", "CalibratedResidual", "CalibratedTail"}) {
      for (const auto type : {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
                              ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16}) {
        expected.emplace(name, type, provider);
      }
    }
  }
  EXPECT_EQ(operators, expected);
}

TEST_F(Library, AFailureBecomesAStatus) {
  domain_fails = true;
  EXPECT_EQ(register_custom_ops(nullptr, &kCurrent), made_status());
  EXPECT_EQ(message, "the domain is taken");
}

}  // namespace
