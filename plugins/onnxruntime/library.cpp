// librc_ort's one symbol. ONNX Runtime calls it for every session that the library is registered with.

#include <deque>
#include <string>

#include "custom_op.h"

namespace rc {
namespace {

#define RC_TEXT_OF(number) #number
#define RC_TEXT(macro) RC_TEXT_OF(macro)
// For `rc-deploy doctor`, which reads libraries as files and loads none.
[[gnu::used]] constexpr char kBuiltFor[] = "rc-deploy built this for ONNX Runtime 1." RC_TEXT(ORT_API_VERSION);

constexpr Provider kProviders[] = {
    {"CPUExecutionProvider", &Operator::compute_on_cpu, true},
    {"CUDAExecutionProvider", &Operator::compute_on_cuda, false},
};

// The domain `rc` with every operator that there is a kernel of, made at the first call and kept as long as the
// process: sessions refer to it.
OrtCustomOpDomain* domain() {
  static std::deque<CustomOp> operators;  // its elements keep their addresses
  static OrtCustomOpDomain* const made = [] {
    OrtCustomOpDomain* result = nullptr;
    check(ort().CreateCustomOpDomain("rc", &result));
    for (const Provider& provider : kProviders) {
      for (const Operator& described : kOperators) {
        if (described.*provider.compute == nullptr) {
          continue;
        }
        for (const rc_type type : {RC_FLOAT32, RC_FLOAT16, RC_BFLOAT16}) {
          operators.emplace_back(described, type, provider);
          check(ort().CustomOpDomain_Add(result, &operators.back()));
        }
      }
    }
    return result;
  }();
  return made;
}

}  // namespace
}  // namespace rc

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    const std::string message = "librc_ort needs ONNX Runtime 1." + std::to_string(ORT_API_VERSION) +
                                " or later; this is " + base->GetVersionString() +
                                ". Upgrade ONNX Runtime, or run without the library: rc operators then run through "
                                "their bodies.";
    // The table only ever grew, so the first version's functions are in every one.
    return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, message.c_str());
  }
  rc::set_ort(*api);
  return rc::guarded([&] { rc::check(rc::ort().AddCustomOpDomain(options, rc::domain())); });
}
