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
rc_status with_type(rc_type type, const Body& body) {
  switch (type) {
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
template <class Operands>
bool sizes(const Operands& operands, Sizes* result) {
  std::int64_t rows = 0;
  std::int64_t elements = 0;
  if (operands.batch < 0 || operands.channels < 0 || operands.positions < 0 ||
      __builtin_mul_overflow(operands.batch, operands.channels, &rows) ||
      __builtin_mul_overflow(rows, operands.positions, &elements)) {
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

rc_status calibrate(const rc_calibration* operands, bool residual, const void* shortcut, const rc_parallel* parallel) {
  Sizes size{};
  if (operands == nullptr || !sizes(*operands, &size) || !is_epsilon(operands->epsilon)) {
    return RC_INVALID_ARGUMENT;
  }
  return with_type(operands->type, [&](const auto& typed, auto* null) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(null)>>;
    if (size.elements > 0 &&
        (any_null(operands->a, operands->mu, operands->log_var, operands->y) || (residual && shortcut == nullptr))) {
      return RC_INVALID_ARGUMENT;
    }
    const Calibration<T, T> tensors{static_cast<const T*>(operands->a),  static_cast<const T*>(shortcut),
                                    static_cast<const T*>(operands->mu), static_cast<const T*>(operands->log_var),
                                    static_cast<T*>(operands->y),        operands->epsilon};
    const auto positions = static_cast<std::size_t>(operands->positions);
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
  const rc_tail& operands;  // for the weights and epsilon
  T* y;
  float* workspace;
  std::size_t batch;
  std::size_t channels;
  std::size_t positions;
  std::size_t hidden;

  float* means(std::size_t sample) const { return workspace + sample * channels; }
  float* squeezed(std::size_t sample) const { return workspace + batch * channels + sample * hidden; }
  float* statistics(std::size_t sample) const {
    return workspace + batch * (channels + hidden) + sample * 2 * channels;
  }

  void pool(std::size_t begin, std::size_t end) const {
    tail.pool(a + begin * positions, workspace + begin, end - begin, positions);
  }

  void predict(std::size_t sample) const {
    const auto of = [](const void* weights) { return static_cast<const T*>(weights); };
    typed.dense(of(operands.w1), of(operands.b1), means(sample), squeezed(sample), hidden, channels);
    typed.dense(of(operands.w2), of(operands.b2), squeezed(sample), statistics(sample), 2 * channels, hidden);
  }

  // Elements [begin, end) of one sample.
  void calibrate(std::size_t sample, std::size_t begin, std::size_t end) const {
    const std::size_t offset = sample * channels * positions;
    const float* mu = statistics(sample);
    tail.calibrate({a + offset, shortcut + offset, mu, mu + channels, y + offset, operands.epsilon},
                   {begin, end, positions});
  }

  // Reads a sample a second time while it is still in the cache.
  void whole(std::size_t sample) const {
    pool(sample * channels, (sample + 1) * channels);
    predict(sample);
    calibrate(sample, 0, channels * positions);
  }

  void run(const rc_parallel* parallel) const {
    const std::size_t elements = channels * positions;
    if (batch >= kManySamples || elements <= kPiece) {
      in_pieces(parallel, batch, 1 + kPiece / (elements + 1), [&](std::size_t begin, std::size_t end) {
        for (std::size_t sample = begin; sample < end; ++sample) {
          whole(sample);
        }
      });
      return;
    }
    // Few large samples: threads share each of them, and wait for each other between the steps.
    for (std::size_t sample = 0; sample < batch; ++sample) {
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

enum rc_status rc_cpu_gclu(const void* x, void* y, int64_t count, enum rc_type type, enum rc_approximation approximate,
                           const struct rc_parallel* parallel) {
  if (count < 0 || (count > 0 && rc::any_null(x, y)) || approximate < RC_NONE || approximate > RC_TANH) {
    return RC_INVALID_ARGUMENT;
  }
  return rc::with_type(type, [&](const auto& typed, auto* null) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(null)>>;
    rc::in_pieces(parallel, static_cast<std::size_t>(count), rc::kPiece, [&](std::size_t begin, std::size_t end) {
      typed.gclu[approximate](static_cast<const T*>(x) + begin, static_cast<T*>(y) + begin, end - begin);
    });
    return RC_OK;
  });
}

enum rc_status rc_cpu_response_calibration(const struct rc_calibration* operands, const struct rc_parallel* parallel) {
  return rc::calibrate(operands, false, nullptr, parallel);
}

enum rc_status rc_cpu_calibrated_residual(const struct rc_calibration* operands, const void* shortcut,
                                          const struct rc_parallel* parallel) {
  return rc::calibrate(operands, true, shortcut, parallel);
}

size_t rc_cpu_calibrated_tail_workspace(int64_t batch, int64_t channels, int64_t hidden) {
  return static_cast<size_t>(batch) * static_cast<size_t>(3 * channels + hidden) * sizeof(float);
}

enum rc_status rc_cpu_calibrated_tail(const struct rc_tail* operands, int64_t block,
                                      const struct rc_parallel* parallel) {
  rc::Sizes size{};
  const bool is_block = block == 1 || block == 8 || block == 16;
  if (operands == nullptr || !rc::sizes(*operands, &size) || !rc::is_epsilon(operands->epsilon) ||
      operands->hidden < 0 || !is_block || operands->channels % block != 0) {
    return RC_INVALID_ARGUMENT;
  }
  return rc::with_type(operands->type, [&](const auto& typed, auto* null) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(null)>>;
    if (size.elements == 0) {
      return RC_OK;
    }
    if (rc::any_null(operands->a, operands->shortcut, operands->b2, operands->y, operands->workspace) ||
        (operands->hidden > 0 && rc::any_null(operands->w1, operands->b1, operands->w2))) {
      return RC_INVALID_ARGUMENT;
    }
    const rc::WholeTail<T> tail{typed,
                                block == 1   ? typed.rows
                                : block == 8 ? typed.blocks_of_8
                                             : typed.blocks_of_16,
                                static_cast<std::size_t>(block),
                                static_cast<const T*>(operands->a),
                                static_cast<const T*>(operands->shortcut),
                                *operands,
                                static_cast<T*>(operands->y),
                                static_cast<float*>(operands->workspace),
                                static_cast<std::size_t>(operands->batch),
                                static_cast<std::size_t>(operands->channels),
                                static_cast<std::size_t>(operands->positions),
                                static_cast<std::size_t>(operands->hidden)};
    tail.run(parallel);
    return RC_OK;
  });
}

const char* rc_cpu_isa(void) { return rc::kernels().isa; }
}
