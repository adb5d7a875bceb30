// Numbers below 1.2e-38, which float32 holds with fewer digits (denormals): gradients of a softmax
// are full of them, and many processors take a hundred times as long for each.
#pragma once

#ifdef __SSE__
#include <xmmintrin.h>

// While it lives, its thread takes them for zero and makes none; then the thread is as it was. What
// the caller has set does not hold for threads that were made before.
class NoDenormals {
 public:
  NoDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | FLUSH_RESULTS | ZERO_OPERANDS); }
  ~NoDenormals() { _mm_setcsr(before_); }
  NoDenormals(const NoDenormals&) = delete;
  NoDenormals& operator=(const NoDenormals&) = delete;

 private:
  static constexpr unsigned FLUSH_RESULTS = 0x8000, ZERO_OPERANDS = 0x0040;
  const unsigned before_;
};
#else
struct NoDenormals {
  NoDenormals() {}  // so that nobody warns of an unused variable
};
#endif
