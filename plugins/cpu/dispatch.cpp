// Which of the compiled instruction sets to run.

#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace rc {
namespace {

const Kernels& best() {
#if defined(RC_HAS_X86_KERNELS)
  const char* wanted = std::getenv("RC_CPU_ISA");
  const auto allowed = [wanted](const char* isa) { return wanted == nullptr || std::strcmp(wanted, isa) == 0; };
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512 && allowed("avx512")) {
    return kKernelsAvx512;
  }
  if (avx2 && (allowed("avx2") || allowed("avx512"))) {
    return kKernelsAvx2;
  }
#endif
  return kKernelsPlain;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = best();
  return chosen;
}

}  // namespace rc
