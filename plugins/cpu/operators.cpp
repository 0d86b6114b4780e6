// The C API: checks arguments once, then spreads pieces of work over the caller's threads.

#include <cmath>
#include <type_traits>

#include "kernels.h"
#include "rc/cpu.h"

namespace rc {
namespace {

// Elements of one piece of work: small enough for a core's cache, large enough to be worth handing over.
constexpr std::size_t kPiece = 16384;

// Calls body(begin, end) over [0, count) in pieces of `size`.
template <class Body>
void in_pieces(const rc_parallel* parallel, std::size_t count, std::size_t size, const Body& body) {
  if (parallel == nullptr || count <= size) {
    if (count > 0) {
      body(std::size_t{0}, count);
    }
    return;
  }
  struct Job {
    const Body& body;
    std::size_t count;
    std::size_t size;
  } job{body, count, size};
  const auto task = [](void* argument, std::size_t index) {
    const Job& piece = *static_cast<const Job*>(argument);
    const std::size_t begin = index * piece.size;
    const std::size_t end = piece.count - begin < piece.size ? piece.count : begin + piece.size;
    piece.body(begin, end);
  };
  parallel->run(parallel->pool, task, (count + size - 1) / size, &job);
}

// Calls body with the kernels of a type and a null pointer of that type.
template <class Body>
rc_status with_type(rc_dtype dtype, const Body& body) {
  switch (dtype) {
    case RC_FLOAT32:
      return body(kernels().float32, static_cast<const float*>(nullptr));
    case RC_FLOAT16:
      return body(kernels().float16, static_cast<const Half*>(nullptr));
    case RC_BFLOAT16:
      return body(kernels().bfloat16, static_cast<const BFloat16*>(nullptr));
  }
  return RC_INVALID_ARGUMENT;
}

struct Sizes {
  std::size_t rows;
  std::size_t elements;
};

// False where a size is negative or their product has no number.
bool sizes(rc_extent extent, Sizes* result) {
  std::int64_t rows = 0;
  std::int64_t elements = 0;
  if (extent.samples < 0 || extent.channels < 0 || extent.positions < 0 ||
      __builtin_mul_overflow(extent.samples, extent.channels, &rows) ||
      __builtin_mul_overflow(rows, extent.positions, &elements)) {
    return false;
  }
  *result = {static_cast<std::size_t>(rows), static_cast<std::size_t>(elements)};
  return true;
}

bool is_epsilon(float epsilon) { return std::isfinite(epsilon) && epsilon > 0.0F; }

template <class... Pointers>
bool any_null(Pointers... pointers) {
  return ((pointers == nullptr) || ...);
}

rc_status calibrate(rc_dtype dtype, const void* a, const void* mu, const void* log_var, const void* shortcut, void* y,
                    rc_extent extent, float epsilon, const rc_parallel* parallel) {
  Sizes size{};
  if (!sizes(extent, &size) || !is_epsilon(epsilon)) {
    return RC_INVALID_ARGUMENT;
  }
  return with_type(dtype, [&](const auto& typed, auto* type) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
    if (size.elements > 0 && any_null(a, mu, log_var, y)) {
      return RC_INVALID_ARGUMENT;
    }
    const Calibration<T, T> tensors{static_cast<const T*>(a),  static_cast<const T*>(shortcut),
                                    static_cast<const T*>(mu), static_cast<const T*>(log_var),
                                    static_cast<T*>(y),        epsilon};
    const auto positions = static_cast<std::size_t>(extent.positions);
    in_pieces(parallel, size.elements, kPiece,
              [&](std::size_t begin, std::size_t end) { typed.calibrate(tensors, {begin, end, positions}); });
    return RC_OK;
  });
}

// A CalibratedTail whose arguments have been checked. Workspace: means (N, C), hidden (N, H), statistics (N, 2 C).
template <class T>
struct WholeTail {
  const TypedKernels<T>& typed;
  const TailKernels<T>& tail;
  std::size_t block;
  const T* a;
  const T* shortcut;
  rc_perceptron perceptron;
  T* y;
  std::size_t samples;
  std::size_t channels;
  std::size_t positions;
  float epsilon;
  float* workspace;

  std::size_t hidden() const { return static_cast<std::size_t>(perceptron.hidden); }
  float* means(std::size_t sample) const { return workspace + sample * channels; }
  float* squeezed(std::size_t sample) const { return workspace + samples * channels + sample * hidden(); }
  float* statistics(std::size_t sample) const {
    return workspace + samples * (channels + hidden()) + sample * 2 * channels;
  }

  void pool(std::size_t begin, std::size_t end) const {
    tail.pool(a + begin * positions, workspace + begin, end - begin, positions);
  }

  void predict(std::size_t sample) const {
    const auto of = [](const void* weights) { return static_cast<const T*>(weights); };
    typed.dense(of(perceptron.w1), of(perceptron.b1), means(sample), squeezed(sample), hidden(), channels);
    typed.dense(of(perceptron.w2), of(perceptron.b2), squeezed(sample), statistics(sample), 2 * channels, hidden());
  }

  // Elements [begin, end) of one sample.
  void calibrate(std::size_t sample, std::size_t begin, std::size_t end) const {
    const std::size_t offset = sample * channels * positions;
    const float* mu = statistics(sample);
    tail.calibrate({a + offset, shortcut + offset, mu, mu + channels, y + offset, epsilon}, {begin, end, positions});
  }

  // Reads a sample a second time while it is still in the cache.
  void whole(std::size_t sample) const {
    pool(sample * channels, (sample + 1) * channels);
    predict(sample);
    calibrate(sample, 0, channels * positions);
  }

  void run(const rc_parallel* parallel) const {
    const std::size_t elements = channels * positions;
    if (samples >= kManySamples || elements <= kPiece) {
      in_pieces(parallel, samples, 1 + kPiece / (elements + 1), [&](std::size_t begin, std::size_t end) {
        for (std::size_t sample = begin; sample < end; ++sample) {
          whole(sample);
        }
      });
      return;
    }
    // Few large samples: threads share each of them, and wait for each other between the steps.
    for (std::size_t sample = 0; sample < samples; ++sample) {
      const std::size_t first = sample * channels;
      in_pieces(parallel, channels, (1 + kPiece / positions / block) * block,
                [&](std::size_t begin, std::size_t end) { pool(first + begin, first + end); });
      predict(sample);
      in_pieces(parallel, elements, kPiece, [&](std::size_t begin, std::size_t end) { calibrate(sample, begin, end); });
    }
  }

  static constexpr std::size_t kManySamples = 8;
};

}  // namespace
}  // namespace rc

extern "C" {

enum rc_status rc_cpu_gclu(enum rc_dtype dtype, enum rc_approximation approximation, const void* x, void* y,
                           int64_t count, const struct rc_parallel* parallel) {
  if (count < 0 || (count > 0 && rc::any_null(x, y)) || approximation < RC_NONE || approximation > RC_TANH) {
    return RC_INVALID_ARGUMENT;
  }
  return rc::with_type(dtype, [&](const auto& typed, auto* type) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
    rc::in_pieces(parallel, static_cast<std::size_t>(count), rc::kPiece, [&](std::size_t begin, std::size_t end) {
      typed.gclu[approximation](static_cast<const T*>(x) + begin, static_cast<T*>(y) + begin, end - begin);
    });
    return RC_OK;
  });
}

enum rc_status rc_cpu_response_calibration(enum rc_dtype dtype, const void* a, const void* mu, const void* log_var,
                                           void* y, struct rc_extent extent, float epsilon,
                                           const struct rc_parallel* parallel) {
  return rc::calibrate(dtype, a, mu, log_var, nullptr, y, extent, epsilon, parallel);
}

enum rc_status rc_cpu_calibrated_residual(enum rc_dtype dtype, const void* a, const void* mu, const void* log_var,
                                          const void* shortcut, void* y, struct rc_extent extent, float epsilon,
                                          const struct rc_parallel* parallel) {
  if (shortcut == nullptr && extent.samples > 0 && extent.channels > 0 && extent.positions > 0) {
    return RC_INVALID_ARGUMENT;
  }
  return rc::calibrate(dtype, a, mu, log_var, shortcut, y, extent, epsilon, parallel);
}

size_t rc_cpu_calibrated_tail_workspace(struct rc_extent extent, int64_t hidden) {
  return static_cast<size_t>(extent.samples) * static_cast<size_t>(3 * extent.channels + hidden);
}

enum rc_status rc_cpu_calibrated_tail(enum rc_dtype dtype, const void* a, const void* shortcut,
                                      struct rc_perceptron perceptron, void* y, struct rc_extent extent, int64_t block,
                                      float epsilon, float* workspace, const struct rc_parallel* parallel) {
  rc::Sizes size{};
  const bool is_block = block == 1 || block == 8 || block == 16;
  if (!rc::sizes(extent, &size) || !rc::is_epsilon(epsilon) || perceptron.hidden < 0 || !is_block ||
      extent.channels % block != 0) {
    return RC_INVALID_ARGUMENT;
  }
  return rc::with_type(dtype, [&](const auto& typed, auto* type) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
    if (size.elements == 0) {
      return RC_OK;
    }
    if (rc::any_null(a, shortcut, y, perceptron.b2) || workspace == nullptr ||
        (perceptron.hidden > 0 && rc::any_null(perceptron.w1, perceptron.b1, perceptron.w2))) {
      return RC_INVALID_ARGUMENT;
    }
    const rc::WholeTail<T> tail{typed,
                                block == 1   ? typed.rows
                                : block == 8 ? typed.blocks_of_8
                                             : typed.blocks_of_16,
                                static_cast<std::size_t>(block),
                                static_cast<const T*>(a),
                                static_cast<const T*>(shortcut),
                                perceptron,
                                static_cast<T*>(y),
                                static_cast<std::size_t>(extent.samples),
                                static_cast<std::size_t>(extent.channels),
                                static_cast<std::size_t>(extent.positions),
                                epsilon,
                                workspace};
    tail.run(parallel);
    return RC_OK;
  });
}

const char* rc_cpu_isa(void) { return rc::kernels().isa; }
}
