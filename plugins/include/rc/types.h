// What the C interfaces of the rc kernels share.

#ifndef RC_TYPES_H_
#define RC_TYPES_H_

#ifdef __cplusplus
extern "C" {
#endif

enum rc_status {
  RC_OK = 0,
  RC_INVALID_ARGUMENT = 1,  // the caller's fault: a null pointer, a negative size, an unknown enumerator
  RC_UNSUPPORTED = 2,       // sizes that the kernels cannot address
  RC_CUDA_ERROR = 3,        // the runtime refused; its words are in the last error's message
};

enum rc_dtype { RC_FLOAT32 = 0, RC_FLOAT16 = 1, RC_BFLOAT16 = 2 };

// How GCLU computes Phi: exactly, by the paper's Eq. 7, or by its Eq. 8.
enum rc_approximation { RC_NONE = 0, RC_SIGMOID = 1, RC_TANH = 2 };

#ifdef __cplusplus
}
#endif

#endif  // RC_TYPES_H_
