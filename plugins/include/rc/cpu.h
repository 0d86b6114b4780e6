/* The rc operators on the CPU: plain parameters in, a status out, no exceptions, no state.
 *
 * Tensors are contiguous, need no alignment, and must not overlap, except where an output is exactly an input. Sizes
 * may be 0; an empty output needs no pointers and is RC_OK. epsilon must be positive and finite. The kernels are
 * compiled for several instruction sets; the best that the processor has is chosen once, at run time.
 * RC_CPU_ISA=plain|avx2|avx512 in the environment takes a lesser one, for tests and comparisons.
 */

#ifndef RC_CPU_H
#define RC_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "rc/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How work is spread over threads: `run` calls task(argument, i) once for every i in [0, count), in any order, on any
 * threads, and returns when all are done. A null rc_parallel* does everything in the calling thread. */
struct rc_parallel {
  void* pool; /* first argument of run */
  void (*run)(void* pool, void (*task)(void* argument, size_t index), size_t count, void* argument);
};

/* Sizes of a calibrated tensor A (N, C, *). */
struct rc_extent {
  int64_t samples;   /* N */
  int64_t channels;  /* C */
  int64_t positions; /* the product of all others */
};

/* Y = GCLU(X), both of `count` elements. */
enum rc_status rc_cpu_gclu(enum rc_dtype dtype, enum rc_approximation approximation, const void* x, void* y,
                           int64_t count, const struct rc_parallel* parallel);

/* Y = A + RC(A), A and Y (N, C, *), mu and log_var (N, C). */
enum rc_status rc_cpu_response_calibration(enum rc_dtype dtype, const void* a, const void* mu, const void* log_var,
                                           void* y, struct rc_extent extent, float epsilon,
                                           const struct rc_parallel* parallel);

/* Y = ReLU(A + RC(A) + Shortcut), the shortcut of A's shape. */
enum rc_status rc_cpu_calibrated_residual(enum rc_dtype dtype, const void* a, const void* mu, const void* log_var,
                                          const void* shortcut, void* y, struct rc_extent extent, float epsilon,
                                          const struct rc_parallel* parallel);

/* The perceptron that predicts a calibration's statistics: h = W1 g + b1, (mu, log_var) = W2 h + b2. */
struct rc_perceptron {
  const void* w1; /* (H, C) */
  const void* b1; /* (H) */
  const void* w2; /* (2 C, H) */
  const void* b2; /* (2 C) */
  int64_t hidden; /* H */
};

/* How many floats of workspace rc_cpu_calibrated_tail wants. */
size_t rc_cpu_calibrated_tail_workspace(struct rc_extent extent, int64_t hidden);

/* Y = ReLU(A + RC(A) + Shortcut), mu and log_var predicted from g, A's mean over positions. Without hidden units (H =
 * 0) they are b2, and the other weights may be null; CUDA's kernel refuses that. A, Shortcut and Y lie as (N, C, *)
 * where `block` is 1; where it is 8 or 16, that many channels lie side by side, (N, C / block, *, block), as blocked
 * convolutions like them. */
enum rc_status rc_cpu_calibrated_tail(enum rc_dtype dtype, const void* a, const void* shortcut,
                                      struct rc_perceptron perceptron, void* y, struct rc_extent extent, int64_t block,
                                      float epsilon, float* workspace, const struct rc_parallel* parallel);

/* The instruction set in use: "avx512", "avx2" or "plain". */
const char* rc_cpu_isa(void);

#ifdef __cplusplus
}
#endif

#endif
