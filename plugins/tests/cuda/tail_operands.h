// The operands of a whole tail, and what is due for them.

#pragma once

#include <cmath>
#include <vector>

#include "tail.h"
#include "tensors.h"

namespace rc::test {

constexpr float kEpsilon = 1e-5F;

struct Shape {
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t positions;
  std::int64_t hidden;
  int shift = 0;
  int shift_shortcut = 0;
};

template <typename T>
struct Operands {
  explicit Operands(const Shape& s)
      : shape(s),
        a(s.batch * s.channels * s.positions, s.shift),
        shortcut(a.count(), s.shift_shortcut),
        y(a.count(), s.shift),
        w1(s.hidden * s.channels),
        b1(s.hidden),
        w2(2 * s.channels * s.hidden),
        b2(2 * s.channels) {
    a.fill_normal(1, 2.0, 0.3);
    shortcut.fill_normal(2, 2.0);
    w1.fill_normal(3, 1.0 / std::sqrt(static_cast<double>(s.channels)));
    b1.fill_normal(4, 0.5);
    w2.fill_normal(5, 1.0 / std::sqrt(static_cast<double>(s.hidden)));
    b2.fill_normal(6, 0.5);
  }

  TailTensors<T> tensors() {
    const bool aligned = shape.shift == shape.shift_shortcut;
    return {a.data(),
            shortcut.data(),
            w1.data(),
            b1.data(),
            w2.data(),
            b2.data(),
            y.data(),
            shape.positions,
            static_cast<std::int32_t>(shape.channels),
            static_cast<std::int32_t>(shape.hidden),
            epsilon,
            aligned};
  }

  // Compare Y with float64; the coefficients' own float32 roundings, some hundred, are far below a half's.
  void check() const {
    const double arithmetic = 8 + 16 * std::sqrt(static_cast<double>(shape.channels + shape.hidden + 64));
    for (std::int64_t n = 0; n < shape.batch; ++n) {
      std::vector<double> mean(static_cast<std::size_t>(shape.channels));
      std::vector<double> h(static_cast<std::size_t>(shape.hidden));
      for (std::int64_t c = 0; c < shape.channels; ++c) {
        for (std::int64_t p = 0; p < shape.positions; ++p) {
          mean[static_cast<std::size_t>(c)] += a[element(n, c, p)] / static_cast<double>(shape.positions);
        }
      }
      const auto row = [](const Tensor<T>& w, const Tensor<T>& b, const std::vector<double>& x, std::int64_t r) {
        double sum = b[r];
        for (std::size_t i = 0; i < x.size(); ++i) {
          sum += w[r * static_cast<std::int64_t>(x.size()) + static_cast<std::int64_t>(i)] * x[i];
        }
        return sum;
      };
      for (std::int64_t i = 0; i < shape.hidden; ++i) {
        h[static_cast<std::size_t>(i)] = row(w1, b1, mean, i);
      }
      for (std::int64_t c = 0; c < shape.channels; ++c) {
        const double mu = row(w2, b2, h, c);
        const double log_var = row(w2, b2, h, shape.channels + c);
        for (std::int64_t p = 0; p < shape.positions; ++p) {
          const std::int64_t e = element(n, c, p);
          const double sum = exact_calibration(a[e], mu, log_var, static_cast<double>(epsilon)) + shortcut[e];
          const double exact = sum < 0 ? 0.0 : sum;
          ASSERT_TRUE(near(y[e], exact, bound<T>(std::abs(a[e]) + std::abs(shortcut[e]), exact, arithmetic)))
              << "sample " << n << ", channel " << c << ", position " << p;
        }
      }
    }
    ASSERT_TRUE(y.guards_hold());
  }

  std::int64_t element(std::int64_t n, std::int64_t c, std::int64_t p) const {
    return (n * shape.channels + c) * shape.positions + p;
  }

  Shape shape;
  float epsilon = kEpsilon;
  Tensor<T> a, shortcut, y, w1, b1, w2, b2;
};

}  // namespace rc::test
