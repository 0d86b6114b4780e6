// What the tests of the CPU kernels share: guarded buffers, random tensors, a thread pool, the instruction set asked
// for.

#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "rc/cpu.h"
#include "storage.h"

namespace rc::test {

// Skips what this processor cannot run, and fails where dispatch takes another instruction set than was asked for.
class CpuTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* wanted = std::getenv("RC_CPU_ISA");
    if (wanted != nullptr && std::string(rc_cpu_isa()) != wanted) {
#if defined(__x86_64__)
      __builtin_cpu_init();
      const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
      const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
      const std::string isa = wanted;
      ASSERT_FALSE((isa == "avx2" && avx2) || (isa == "avx512" && avx512) || isa == "plain");
#endif
      GTEST_SKIP() << "this processor has no " << wanted;
    }
  }
};

// Sizes of a calibrated tensor.
struct Extent {
  std::int64_t batch;
  std::int64_t channels;
  std::int64_t positions;
};

// An output of `count` elements that starts at an odd address for its vectors and stands between guards. It is
// poisoned, so that an element that no kernel writes is seen.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::size_t count) : count_(count), memory_((count + 2 * kGuard) * sizeof(T), kPoison) {}

  T* data() { return reinterpret_cast<T*>(memory_.data()) + kGuard; }
  float operator[](std::size_t index) { return load(data()[index]); }

  void expect_guards_untouched() const {
    const std::size_t guard = kGuard * sizeof(T);
    for (std::size_t i = 0; i < guard; ++i) {
      ASSERT_EQ(memory_[i], kPoison) << "written before the output";
      ASSERT_EQ(memory_[guard + count_ * sizeof(T) + i], kPoison) << "written after the output";
    }
  }

 private:
  static constexpr unsigned char kPoison = 0xee;
  static constexpr std::size_t kGuard = 17;
  std::size_t count_;
  std::vector<unsigned char> memory_;
};

inline std::vector<float> normal(std::size_t count, unsigned seed, float scale = 1.0F) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution(0.0F, scale);
  std::vector<float> values(count);
  for (float& value : values) {
    value = distribution(generator);
  }
  return values;
}

template <class T>
std::vector<T> stored(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values) {
    result.push_back(store<T>(value));
  }
  return result;
}

// What the kernels read, after rounding to the tensors' type.
template <class T>
std::vector<float> loaded(const std::vector<T>& values) {
  std::vector<float> result;
  for (const T value : values) {
    result.push_back(load(value));
  }
  return result;
}

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr rc_type type = RC_FLOAT32;
  static constexpr double rounding = 0.0;       // relative, of storing a float
  static constexpr double smallest = 0x1p-126;  // absolute, where results may not be normal numbers
};
template <>
struct TypeOf<Half> {
  static constexpr rc_type type = RC_FLOAT16;
  static constexpr double rounding = 0x1p-11;
  static constexpr double smallest = 0x1p-25;
};
template <>
struct TypeOf<BFloat16> {
  static constexpr rc_type type = RC_BFLOAT16;
  static constexpr double rounding = 0x1p-8;
  static constexpr double smallest = 0x1p-126;
};

// Three threads that take tasks in turn.
class Pool {
 public:
  Pool() : parallel_{this, &Pool::run} {}

  const rc_parallel* get() const { return &parallel_; }
  std::size_t tasks() const { return tasks_; }

 private:
  static void run(void* pool, void (*task)(void*, std::size_t), std::size_t count, void* argument) {
    static_cast<Pool*>(pool)->tasks_ += count;
    std::atomic<std::size_t> next{0};
    std::vector<std::thread> threads;
    for (int k = 0; k < 3; ++k) {
      threads.emplace_back([&] {
        for (std::size_t i = next++; i < count; i = next++) {
          task(argument, i);
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }

  rc_parallel parallel_;
  std::size_t tasks_ = 0;
};

}  // namespace rc::test
