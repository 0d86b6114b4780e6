/* The types that every C API of the rc operators shares: outcomes, types of tensors, forms of GCLU. */

#ifndef RC_TYPES_H
#define RC_TYPES_H

/* What a launcher answers. It never throws; an argument it refuses leaves the output untouched. */
enum rc_status {
  RC_OK = 0,
  RC_INVALID_ARGUMENT = 1, /* a null pointer, a negative size, an unknown enumerator, an impossible attribute */
  RC_UNSUPPORTED = 2,      /* valid, but not computed by this kernel */
  RC_CUDA_ERROR = 3        /* the CUDA runtime reports an error */
};

/* Type of a tensor's elements; arithmetic is float32 whatever it is. */
enum rc_dtype { RC_FLOAT32 = 0, RC_FLOAT16 = 1, RC_BFLOAT16 = 2 };

/* Form of Phi in GCLU: the paper's Eq. 6, 7 and 8. */
enum rc_approximation { RC_NONE = 0, RC_SIGMOID = 1, RC_TANH = 2 };

#endif
