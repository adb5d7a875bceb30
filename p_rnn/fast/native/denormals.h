// Denormals: numbers below 1.2e-38, which float32 stores with fewer digits. Gradients of a softmax
// are full of them, and many processors are a hundred times slower on each.
#pragma once

#ifdef __SSE__
#include <xmmintrin.h>

// Treats denormals as zero in this thread for the lifetime of the object. Every thread needs one,
// because threads that exist already do not inherit the mode of the caller.
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
  NoDenormals() {}  // avoids a warning about an unused variable
};
#endif
