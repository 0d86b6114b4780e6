// What every C API of the rc operators shares: outcomes, types of elements, forms of GCLU, operands.

#ifndef RC_TYPES_H
#define RC_TYPES_H

#include <stdint.h>

// What a launcher answers. It never throws; an argument it refuses leaves the output untouched.
enum rc_status {
  RC_OK = 0,
  RC_INVALID_ARGUMENT = 1,  // a null pointer, a negative size, an unknown enumerator, an impossible attribute
  RC_UNSUPPORTED = 2,       // valid, but not computed by this kernel
  RC_CUDA_ERROR = 3         // the CUDA runtime reports an error
};

// Type of a tensor's elements; arithmetic is float32 whatever it is.
enum rc_type { RC_FLOAT32 = 0, RC_FLOAT16 = 1, RC_BFLOAT16 = 2 };

// Form of Phi in GCLU: the paper's Eq. 6, 7 and 8.
enum rc_approximation { RC_NONE = 0, RC_SIGMOID = 1, RC_TANH = 2 };

// Responses A (batch, channels, positions), whose calibration by Mu and LogVar (batch, channels) is added to them.
struct rc_calibration {
  const void* a;
  const void* mu;
  const void* log_var;
  void* y;  // like a
  int64_t batch;
  int64_t channels;
  int64_t positions;
  float epsilon;  // positive and finite
  enum rc_type type;
};

// The whole tail of a residual block, which predicts Mu and LogVar itself: g = mean of A over positions,
// h = g W1^T + B1, [mu, log_var] = h W2^T + B2.
struct rc_tail {
  const void* a;         // (batch, channels, positions)
  const void* shortcut;  // like a
  const void* w1;        // (hidden, channels)
  const void* b1;        // (hidden)
  const void* w2;        // (2 channels, hidden)
  const void* b2;        // (2 channels)
  void* y;               // like a
  void* workspace;       // rc_*_calibrated_tail_workspace() bytes, at a multiple of 4; its contents need not be set
  int64_t batch;
  int64_t channels;
  int64_t positions;
  int64_t hidden;
  float epsilon;  // positive and finite
  enum rc_type type;
};

#endif
