// The rc operators on a CUDA device, as a C interface. rc_deploy/schema.py is their contract.
//
// Tensors lie contiguously in device memory, all of them of one type; arithmetic inside is float32. An output must
// not overlap an input. Work is queued on `stream` (a cudaStream_t) of the current device; a status tells whether it
// could be queued. Sizes may be 0; an empty output needs no pointers and is RC_OK. Any alignment that suits the type is
// right; 16 bytes, or the same distance from 16 bytes for all large tensors of a call, is fast.

#ifndef RC_CUDA_H_
#define RC_CUDA_H_

#include <stddef.h>
#include <stdint.h>

#include "rc/types.h"

#define RC_CUDA_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// Y = ReLU(X) + X Phi(-|X|) over `count` elements.
RC_CUDA_EXPORT enum rc_status rc_cuda_gclu(const void* x, void* y, int64_t count, enum rc_dtype type,
                                           enum rc_approximation approximate, void* stream);

// A responses (batch, channels, positions) whose calibration by mu and log_var (batch, channels) is added to them.
struct rc_cuda_calibration {
  const void* a;
  const void* mu;
  const void* log_var;
  void* y;
  int64_t batch;
  int64_t channels;
  int64_t positions;
  float epsilon;  // positive and finite
  enum rc_dtype type;
};

// Y = A + A Phi(-|Z|), Z = (A - Mu) / (exp(LogVar / 2) + epsilon).
RC_CUDA_EXPORT enum rc_status rc_cuda_response_calibration(const struct rc_cuda_calibration* operands, void* stream);

// Y = ReLU(A + A Phi(-|Z|) + Shortcut), the shortcut like A.
RC_CUDA_EXPORT enum rc_status rc_cuda_calibrated_residual(const struct rc_cuda_calibration* operands,
                                                          const void* shortcut, void* stream);

// The whole tail of a residual block: g = mean of A (batch, channels, positions) over positions,
// h = g W1^T + B1, [mu, log_var] = h W2^T + B2, Y = ReLU(A + A Phi(-|Z|) + Shortcut).
struct rc_cuda_tail {
  const void* a;
  const void* shortcut;  // like a
  const void* w1;        // (hidden, channels)
  const void* b1;        // (hidden)
  const void* w2;        // (2 channels, hidden)
  const void* b2;        // (2 channels)
  void* y;
  void* workspace;  // rc_cuda_calibrated_tail_workspace() bytes, at a multiple of 4; its contents need not be set
  int64_t batch;
  int64_t channels;
  int64_t positions;
  int64_t hidden;
  float epsilon;  // positive and finite
  enum rc_dtype type;
};

// The hidden layer must have units where A is not empty; rc_cpu_calibrated_tail computes without.
// One kernel where a sample fits in the shared memory of a block or a cluster of blocks, else three.
RC_CUDA_EXPORT enum rc_status rc_cuda_calibrated_tail(const struct rc_cuda_tail* operands, void* stream);

// Bytes of workspace, the same on every device; 0 for sizes that the operator refuses.
RC_CUDA_EXPORT size_t rc_cuda_calibrated_tail_workspace(int64_t batch, int64_t channels);

// Why the last call of this thread that did not return RC_OK failed; never null.
RC_CUDA_EXPORT const char* rc_cuda_last_error(void);

#ifdef __cplusplus
}
#endif

#endif  // RC_CUDA_H_
