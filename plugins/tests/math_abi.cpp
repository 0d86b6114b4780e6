// The functions of rc/math.h over arrays, with C names, for tests/plugins/test_math.py.

#include <cstddef>

#include "rc/math.h"

namespace {

template <float (*Function)(float)>
void map(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = Function(x[i]);
  }
}

float lower_tail(float x) {
  return rc::lower_tail(rc::detail::bounded_magnitude(x, rc::kNormalEnd)).times_plus(1.0F, 0.0F);
}

float calibration_weight(float x) {
  return rc::calibration_weight(rc::detail::at_most(rc::detail::magnitude(x), rc::kWeightEnd));
}

}  // namespace

extern "C" {

void rc_lower_tail(const float* x, float* y, std::size_t count) { map<lower_tail>(x, y, count); }
void rc_calibration_weight(const float* x, float* y, std::size_t count) { map<calibration_weight>(x, y, count); }
void rc_standard_deviation(const float* x, float* y, std::size_t count) { map<rc::standard_deviation>(x, y, count); }
void rc_gclu_none(const float* x, float* y, std::size_t count) { map<rc::gclu>(x, y, count); }
void rc_gclu_sigmoid(const float* x, float* y, std::size_t count) { map<rc::gclu_sigmoid>(x, y, count); }
void rc_gclu_tanh(const float* x, float* y, std::size_t count) { map<rc::gclu_tanh>(x, y, count); }

// One channel: a (count) with one mu and one standard deviation.
void rc_calibrated(const float* a, float mu, float std, float epsilon, float* y, std::size_t count) {
  const float slope = rc::calibration_slope(std, epsilon);
  for (std::size_t i = 0; i < count; ++i) {
    y[i] = rc::calibrated(a[i], mu, slope);
  }
}
}
