// The whole tail of a residual block in one kernel: what a block does.
//
// The block copies its channels of A, of the shortcut and the weights into shared memory, all copies under way at
// once; sums its planes; passes their means to its peers in the cluster; computes the hidden layer, which every block
// needs whole, and its own channels' mu and log_var; and applies them to what it holds.

#pragma once

#include "planes.h"
#include "tail_plan.h"

namespace rc {

template <typename T>
struct TailTensors {
  const T* a;
  const T* shortcut;
  const T* w1;
  const T* b1;
  const T* w2;
  const T* b2;
  T* y;
  std::int64_t positions;
  std::int32_t channels;
  std::int32_t hidden;
  float epsilon;
  bool aligned;  // A, shortcut and Y lie at the same distance from a multiple of 16 bytes
};

// The weights as a block sees them, in shared memory or not; W2's rows are those of its own channels.
template <typename T>
struct TailWeights {
  const T* w1;
  const T* b1;
  const T* w2[2];  // of mu and of log_var
  const T* b2[2];
};

// Sum of the elements of `slice` from `begin` to `end`, of which this thread takes every stride-th vector. `read`
// gives a vector of the slice.
template <typename T, typename Read>
RC_KERNEL float sum_of_range(const Read& read, const Vectors& slice, std::int64_t begin, std::int64_t end, int member,
                             int stride) {
  constexpr int kWidth = Pack<T>::kWidth;
  const std::int64_t first = (begin + slice.shift) / kWidth;
  const std::int64_t behind = end > begin ? (end + slice.shift + kWidth - 1) / kWidth : first;
  float total = 0.0F;
  RC_UNROLL_4
  for (std::int64_t v = first + member; v < behind; v += stride) {
    const Pack<T> pack = read(v);
    const std::int64_t element = slice.first(v);
    const bool inside = element >= begin && element + kWidth <= end;
    float part = 0.0F;
    RC_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      const bool counts = inside || (element + i >= begin && element + i < end);
      part += counts ? to_float(pack.values[i]) : 0.0F;
    }
    total += part;
  }
  return total;
}

// out(row, sum over i of vector[i] matrix[row][i]) for every row, by groups of threads of the block.
template <typename T, typename Context, typename Out>
RC_KERNEL void multiply(const Context& context, const float* vector, std::int64_t length, std::int64_t rows,
                        const T* matrix, const Out& out) {
  const int lanes = power_of_two_from(length, 32);
  const int lane = context.thread() % lanes;
  const int group = context.thread() / lanes;
  const int groups = context.threads() / lanes;
  for (std::int64_t start = 0; start < rows; start += groups) {
    const std::int64_t row = start + group;
    float total = 0.0F;
    for (std::int64_t i = row < rows ? lane : length; i < length; i += lanes) {
      total = detail::multiply_add(vector[i], to_float(matrix[row * length + i]), total);
    }
    total = context.sum(total, lanes);
    if (row < rows && lane == 0) {
      out(row, total);
    }
  }
}

template <typename T, typename Context>
RC_KERNEL void start_copy(const Context& context, const T* array, const Vectors& slice, Pack<T>* shared) {
  for (std::int64_t v = context.thread(); v < slice.total; v += context.threads()) {
    if (slice.whole(v)) {
      context.copy_vector(shared + v, array + slice.first(v));
    } else {
      shared[v] = load(array, slice, v);
    }
  }
  context.commit();
}

template <typename T, typename Context>
RC_KERNEL const T* copy_numbers(const Context& context, const T* numbers, int count, T*& shared) {
  T* const start = shared;
  for (int i = context.thread(); i < count; i += context.threads()) {
    start[i] = numbers[i];
  }
  shared += count;
  return start;
}

template <typename T, typename Context>
RC_KERNEL TailWeights<T> place_weights(const Context& context, const TailTensors<T>& tensors, int begin, int planes,
                                       T* shared) {
  const std::int64_t channels = tensors.channels;
  const std::int64_t hidden = tensors.hidden;
  const T* const w2 = tensors.w2 + begin * hidden;
  const T* const b2 = tensors.b2 + begin;
  TailWeights<T> weights = {tensors.w1, tensors.b1, {w2, w2 + channels * hidden}, {b2, b2 + channels}};
  if (shared != nullptr) {
    const int rows = planes * tensors.hidden;
    weights.w1 = copy_numbers(context, weights.w1, tensors.hidden * tensors.channels, shared);
    weights.b1 = copy_numbers(context, weights.b1, tensors.hidden, shared);
    RC_UNROLL
    for (int part = 0; part < 2; ++part) {
      weights.w2[part] = copy_numbers(context, weights.w2[part], rows, shared);
      weights.b2[part] = copy_numbers(context, weights.b2[part], planes, shared);
    }
  }
  return weights;
}

// Sums of parts of the block's planes, into partials[plane * parts + part].
template <typename T, typename Context>
RC_KERNEL void sum_planes(const Context& context, const Pack<T>* responses, const Vectors& slice, int planes,
                          std::int64_t positions, PlaneGroups groups, float* partials) {
  const int group = context.thread() / groups.lanes;
  const int lane = context.thread() % groups.lanes;
  const int units = planes * groups.parts;
  const auto read = [responses](std::int64_t v) { return responses[v]; };
  for (int start = 0; start < units; start += context.threads() / groups.lanes) {
    const int unit = start + group;
    const int member = unit % groups.parts * groups.lanes + lane;
    const std::int64_t begin = unit / groups.parts * positions;
    const std::int64_t end = unit < units ? begin + positions : begin;
    const float total = sum_of_range<T>(read, slice, begin, end, member, groups.parts * groups.lanes);
    const float whole = context.sum(total, groups.lanes);
    if (unit < units && lane == 0) {
      partials[unit] = whole;
    }
  }
}

template <typename T, typename Context>
RC_KERNEL void tail_block(const Context& context, const TailTensors<T>& tensors, const TailPlan& plan,
                          unsigned char* shared) {
  const int rank = static_cast<int>(context.block() % plan.cluster);
  const std::int64_t sample = context.block() / plan.cluster;
  const int begin = first_channel(tensors.channels, rank, plan.cluster);
  const int planes = first_channel(tensors.channels, rank + 1, plan.cluster) - begin;
  const std::int64_t origin = (sample * tensors.channels + begin) * tensors.positions;
  const T* const a = tensors.a + origin;
  const T* const shortcut = tensors.shortcut + origin;
  const Vectors slice = make_vectors(planes * tensors.positions, sizeof(T), misplaced(a, sizeof(T)), tensors.aligned);
  auto* const responses = reinterpret_cast<Pack<T>*>(shared + plan.layout.responses);
  auto* const residuals = reinterpret_cast<Pack<T>*>(shared + plan.layout.shortcut);
  auto* const means = reinterpret_cast<float*>(shared + plan.layout.means);
  auto* const hidden = reinterpret_cast<float*>(shared + plan.layout.hidden);
  auto* const coefficients = reinterpret_cast<Coefficient*>(shared + plan.layout.coefficients);
  auto* const partials = reinterpret_cast<float*>(shared + plan.layout.partials);

  if (plan.cluster > 1) {
    context.cluster_arrive();  // no peer is written to before it has begun
  }
  start_copy(context, a, slice, responses);
  if (plan.layout.shortcut != 0) {
    start_copy(context, shortcut, slice, residuals);
  } else {
    context.commit();
  }
  T* const kept = plan.layout.weights != 0 ? reinterpret_cast<T*>(shared + plan.layout.weights) : nullptr;
  const TailWeights<T> weights = place_weights(context, tensors, begin, planes, kept);

  context.template wait<1>();  // for A
  context.barrier();
  const PlaneGroups groups = plane_groups(tensors.positions, slice.width, planes, context.threads());
  sum_planes(context, responses, slice, planes, tensors.positions, groups, partials);
  context.barrier();
  if (plan.cluster > 1) {
    context.cluster_wait();
  }
  for (int i = context.thread(); i < planes; i += context.threads()) {
    float total = 0.0F;
    for (int part = 0; part < groups.parts; ++part) {
      total += partials[i * groups.parts + part];
    }
    const float mean = total / static_cast<float>(tensors.positions);
    if (plan.cluster > 1) {
      for (int peer = 0; peer < plan.cluster; ++peer) {
        context.peer(means, peer)[begin + i] = mean;
      }
    } else {
      means[i] = mean;
    }
  }
  if (plan.cluster > 1) {
    context.cluster_arrive();
    context.cluster_wait();
  } else {
    context.barrier();
  }

  multiply(context, means, tensors.channels, tensors.hidden, weights.w1,
           [&](std::int64_t row, float sum) { hidden[row] = sum + to_float(weights.b1[row]); });
  context.barrier();
  multiply(context, hidden, tensors.hidden, planes, weights.w2[0],
           [&](std::int64_t row, float sum) { coefficients[row].mu = sum + to_float(weights.b2[0][row]); });
  multiply(context, hidden, tensors.hidden, planes, weights.w2[1], [&](std::int64_t row, float sum) {
    coefficients[row].slope = coefficient(0.0F, sum + to_float(weights.b2[1][row]), tensors.epsilon).slope;
  });
  context.template wait<0>();  // for the shortcut, which each thread reads as it has copied it
  context.barrier();

  const PlaneTable table(coefficients, planes - 1, tensors.positions);
  for (std::int64_t v = context.thread(); v < slice.total; v += context.threads()) {
    Pack<T> pack = responses[v];
    const Pack<T> residual = plan.layout.shortcut != 0 ? residuals[v] : load(shortcut, slice, v);
    apply<T, true>(pack, residual, slice.first(v), table);
    store(tensors.y + origin, slice, v, pack);
  }
}

}  // namespace rc
