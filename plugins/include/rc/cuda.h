// The rc operators on a CUDA device, as a C interface. rc_deploy/schema.py is their contract.
//
// Tensors lie contiguously in device memory, all of them of one type. An output must not overlap an input. Work is
// queued on `stream` (a cudaStream_t) of the current device; a status tells whether it could be queued. Sizes may be 0;
// an empty output needs no pointers and is RC_OK. Any alignment that suits the type is right; 16 bytes, or the same
// distance from 16 bytes for all large tensors of a call, is fast.

#ifndef RC_CUDA_H
#define RC_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "rc/types.h"

#define RC_CUDA_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// Y = ReLU(X) + X Phi(-|X|) over `count` elements.
RC_CUDA_EXPORT enum rc_status rc_cuda_gclu(const void* x, void* y, int64_t count, enum rc_type type,
                                           enum rc_approximation approximate, void* stream);

// Y = A + A Phi(-|Z|), Z = (A - Mu) / (exp(LogVar / 2) + epsilon).
RC_CUDA_EXPORT enum rc_status rc_cuda_response_calibration(const struct rc_calibration* operands, void* stream);

// Y = ReLU(A + A Phi(-|Z|) + Shortcut), the shortcut like A.
RC_CUDA_EXPORT enum rc_status rc_cuda_calibrated_residual(const struct rc_calibration* operands, const void* shortcut,
                                                          void* stream);

// Y = ReLU(A + A Phi(-|Z|) + Shortcut), mu and log_var predicted. The hidden layer must have units where A is not
// empty; rc_cpu_calibrated_tail computes without. One kernel where a sample fits in the shared memory of a block or a
// cluster of blocks, else three.
RC_CUDA_EXPORT enum rc_status rc_cuda_calibrated_tail(const struct rc_tail* operands, void* stream);

// Bytes of workspace, the same on every device; 0 for sizes that the operator refuses.
RC_CUDA_EXPORT size_t rc_cuda_calibrated_tail_workspace(int64_t batch, int64_t channels);

// For benchmarks: have this thread's whole tails launched with `cluster` blocks to a sample and `threads` to a block, 0
// for as many as suit it; with -1 blocks as three kernels; with 0 as the rules have it (plugins/cuda/tail_plan.h). What
// has no room so is RC_UNSUPPORTED.
RC_CUDA_EXPORT enum rc_status rc_cuda_set_tail_plan(int cluster, int threads);

// Why the last call of this thread that did not return RC_OK failed; never null.
RC_CUDA_EXPORT const char* rc_cuda_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
