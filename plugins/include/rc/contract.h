// What the operators demand of a node, in the words of every runtime: rc_deploy/schema.py for the glues. Each function
// named check_... or ..._of throws std::invalid_argument, saying what is wrong, where a node cannot be.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "rc/types.h"

namespace rc::contract {

constexpr float kDefaultEpsilon = 1e-5F;
constexpr std::array<std::string_view, 3> kApproximations = {"none", "sigmoid", "tanh"};  // in rc_approximation's order

inline rc_approximation approximation_of(std::string_view name) {
  for (const rc_approximation approximate : {RC_NONE, RC_SIGMOID, RC_TANH}) {
    if (kApproximations[approximate] == name) {
      return approximate;
    }
  }
  throw std::invalid_argument("approximate is '" + std::string(name) + "'; it must be none, sigmoid or tanh");
}

inline void check_epsilon(float epsilon) {
  if (std::isfinite(epsilon) && epsilon > 0.0F) {
    return;
  }
  std::array<char, 80> words{};
  std::snprintf(words.data(), words.size(), "epsilon is %g; it must be positive and finite",
                static_cast<double>(epsilon));
  throw std::invalid_argument(words.data());
}

constexpr std::int64_t kUnknown = -1;  // a size that is not known yet, and fits any

// The sizes of a tensor's dimensions, which stay where they are.
struct Sizes {
  const std::int64_t* sizes;
  std::size_t rank;

  std::int64_t operator[](std::size_t dimension) const { return sizes[dimension]; }
  const std::int64_t* begin() const { return sizes; }
  const std::int64_t* end() const { return sizes + rank; }
};

// Product of the sizes from dimension `first` on.
inline std::int64_t elements(Sizes shape, std::size_t first = 0) {
  std::int64_t count = 1;
  for (std::size_t i = first; i < shape.rank; ++i) {
    count *= shape[i];
  }
  return count;
}

template <class Shape>
std::string in_words(const Shape& shape) {
  std::string text = "(";
  for (const std::int64_t size : shape) {
    text += (text.size() > 1 ? ", " : "") + (size == kUnknown ? "?" : std::to_string(size));
  }
  return text + ")";
}

template <class Shape>
bool fits(Sizes found, const Shape& due) {
  const auto same = [](std::int64_t size, std::int64_t other) {
    return size == other || size == kUnknown || other == kUnknown;
  };
  return std::equal(found.begin(), found.end(), due.begin(), due.end(), same);
}

// What a run checks is written without allocations: it is a good part of a small network's time.
template <class Shape = std::initializer_list<std::int64_t>>
void check_shape(const char* input, Sizes found, const Shape& due) {
  if (!fits(found, due)) {
    throw std::invalid_argument(std::string(input) + " has shape " + in_words(found) + " where A's shape asks for " +
                                in_words(due));
  }
}

inline void check_responses(Sizes a) {
  if (a.rank < 2) {
    throw std::invalid_argument("A has shape " + in_words(a) + "; it needs at least two dimensions, (N, C, *)");
  }
}

// Whether the inputs of an operator fit each other.
using CheckInputs = void (*)(const Sizes* inputs);

inline void check_gclu(const Sizes*) {}

inline void check_calibration(const Sizes* inputs) {
  const Sizes a = inputs[0];
  check_responses(a);
  check_shape("Mu", inputs[1], {a[0], a[1]});
  check_shape("LogVar", inputs[2], {a[0], a[1]});
}

inline void check_residual(const Sizes* inputs) {
  check_calibration(inputs);
  check_shape("Shortcut", inputs[3], inputs[0]);
}

inline void check_tail(const Sizes* inputs) {
  const Sizes a = inputs[0];
  check_responses(a);
  const std::int64_t channels = a[1];
  const std::int64_t hidden = inputs[2].rank == 0 ? kUnknown : inputs[2][0];
  const std::int64_t both = channels == kUnknown ? kUnknown : 2 * channels;
  check_shape("Shortcut", inputs[1], a);
  check_shape("W1", inputs[2], {hidden, channels});
  check_shape("B1", inputs[3], {hidden});
  check_shape("W2", inputs[4], {both, hidden});
  check_shape("B2", inputs[5], {both});
}

}  // namespace rc::contract
