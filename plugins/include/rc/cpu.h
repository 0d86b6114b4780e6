// The rc operators on the CPU, as a C interface: plain parameters in, a status out, no exceptions, no state.
// rc_deploy/schema.py is their contract.
//
// Tensors are contiguous, all of them of one type, need no alignment, and must not overlap, except where an output is
// exactly an input. Sizes may be 0; an empty output needs no pointers and is RC_OK. The kernels are compiled for
// several instruction sets; the best that the processor has is chosen once, at run time. RC_CPU_ISA=plain|avx2|avx512
// in the environment takes a lesser one, for tests and comparisons.

#ifndef RC_CPU_H
#define RC_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "rc/types.h"

#ifdef __cplusplus
extern "C" {
#endif

// How work is spread over threads: `run` calls task(argument, i) once for every i in [0, count), in any order, on any
// threads, and returns when all are done. A null rc_parallel* does everything in the calling thread.
struct rc_parallel {
  void* pool;  // first argument of run
  void (*run)(void* pool, void (*task)(void* argument, size_t index), size_t count, void* argument);
};

// Y = ReLU(X) + X Phi(-|X|) over `count` elements.
enum rc_status rc_cpu_gclu(const void* x, void* y, int64_t count, enum rc_type type, enum rc_approximation approximate,
                           const struct rc_parallel* parallel);

// Y = A + A Phi(-|Z|), Z = (A - Mu) / (exp(LogVar / 2) + epsilon).
enum rc_status rc_cpu_response_calibration(const struct rc_calibration* operands, const struct rc_parallel* parallel);

// Y = ReLU(A + A Phi(-|Z|) + Shortcut), the shortcut like A.
enum rc_status rc_cpu_calibrated_residual(const struct rc_calibration* operands, const void* shortcut,
                                          const struct rc_parallel* parallel);

// Y = ReLU(A + A Phi(-|Z|) + Shortcut), mu and log_var predicted. Without hidden units they are B2, and the other
// weights may be null; rc_cuda_calibrated_tail refuses that. A, Shortcut and Y lie as (batch, channels, positions)
// where `block` is 1; where it is 8 or 16, that many channels lie side by side, (batch, channels / block, positions,
// block), as blocked convolutions like them.
enum rc_status rc_cpu_calibrated_tail(const struct rc_tail* operands, int64_t block,
                                      const struct rc_parallel* parallel);

// Bytes of workspace.
size_t rc_cpu_calibrated_tail_workspace(int64_t batch, int64_t channels, int64_t hidden);

// The instruction set in use: "avx512", "avx2" or "plain".
const char* rc_cpu_isa(void);

#ifdef __cplusplus
}
#endif

#endif
