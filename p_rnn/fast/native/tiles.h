// SIMD vectors, and matrix products of blocks that fit in the caches.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#ifdef __AVX__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
constexpr int64_t FULL = 16;  // floats in a vector
constexpr int SUMS = 24;      // vectors that a tile keeps in registers
#else
constexpr int64_t FULL = 8;
constexpr int SUMS = 12;
#endif
constexpr int64_t HALF = 8;
constexpr int64_t LINE = 16;  // floats in a cache line
constexpr int64_t ROUND = 24;  // rows of a block are allocated up to a multiple of this
constexpr int64_t WORTH_THREADS = 16384;  // numbers; with fewer, waking a thread takes longer

typedef float Full __attribute__((vector_size(4 * FULL)));
typedef float Half __attribute__((vector_size(4 * HALF)));
typedef int32_t Whole __attribute__((vector_size(4 * FULL)));

inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Floats per row, so that rows start at cache lines and are spread over all sets of a cache.
inline int64_t stride(int64_t n) { return (up(n, LINE) / LINE | 1) * LINE; }

// Uninitialised memory, aligned to a cache line.
class Buffer {
 public:
  explicit Buffer(int64_t size)
      : memory_(static_cast<float*>(std::aligned_alloc(4 * LINE, 4 * up(size + 1, LINE)))) {
    if (memory_) return;
    std::fputs("p_rnn: out of memory\n", stderr);
    std::abort();  // an exception must not leave a parallel region
  }
  operator float*() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> memory_;
};

// Memory shared by the threads of a team; each thread constructs one of these.
class Shared {
 public:
  explicit Shared(int64_t size) {
    Buffer* made;
#pragma omp single copyprivate(made)
    made = new Buffer(size);
    buffer_ = made;
  }
  ~Shared() {
#pragma omp barrier
#pragma omp single nowait
    delete buffer_;
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  operator float*() const { return *buffer_; }

 private:
  Buffer* buffer_;
};

template <typename V>
inline V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <typename V>
inline void store(float* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

inline float total(Full v) {
  // Sum of halves, then quarters and so on, vectorised.
  float sums[FULL];
  std::memcpy(sums, &v, sizeof v);
#pragma GCC unroll 4
  for (int64_t n = FULL / 2; n > 0; n /= 2)
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) sums[k] += sums[k + n];
  return sums[0];
}

inline Full all(float x) { return x - Full{}; }  // x - 0 is x; x + 0 would turn -0 into 0

// e^x to 2 ulp; 1e-38 where x < -87 (Cephes' expf).
inline Full exponential(Full x) {
  x = x < all(-87.0f) ? all(-87.0f) : x;
  x = x > all(88.0f) ? all(88.0f) : x;
  const Full shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Full n = shifted - 12582912.0f;
  Full r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Full p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * (Full)((__builtin_convertvector(n, Whole) + 127) << 23);
}

// Load and store the first n floats of a vector, or all if n >= FULL.
#ifdef __AVX512F__
inline __mmask16 first(int64_t n) { return n >= FULL ? 0xffff : (1u << n) - 1; }
inline Full some(const float* p, int64_t n) { return (Full)_mm512_maskz_loadu_ps(first(n), p); }
inline void keep(float* p, Full v, int64_t n) { _mm512_mask_storeu_ps(p, first(n), (__m512)v); }
#else
inline Full some(const float* p, int64_t n) {
  if (n >= FULL) return load<Full>(p);
  Full v{};
  std::memcpy(&v, p, 4 * n);
  return v;
}

inline void keep(float* p, Full v, int64_t n) {
  std::memcpy(p, &v, n >= FULL ? sizeof v : 4 * n);
}
#endif

// 1 / sqrt(x) to 2 ulp for x that is not too small: an estimate and one Newton step.
inline Full inverse_root(Full x) {
#if defined(__AVX512F__)
  const Full y = (Full)_mm512_rsqrt14_ps((__m512)x);
#elif defined(__AVX__)
  const Full y = (Full)_mm256_rsqrt_ps((__m256)x);
#else
  Full y;
  for (int64_t k = 0; k < FULL; ++k) y[k] = 1.0f / std::sqrt(x[k]);
#endif
  return y * (1.5f - 0.5f * x * y * y);
}

inline float root(float x) { return std::sqrt(x); }

inline Full root(Full x) {
#if defined(__AVX512F__)
  return (Full)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
  return (Full)_mm256_sqrt_ps((__m256)x);
#else
  for (int64_t k = 0; k < FULL; ++k) x[k] = std::sqrt(x[k]);
  return x;
#endif
}

// Element (i, k) of a matrix is at[i * row + k * column].
struct Factor {
  const float* at;
  int64_t row, column;
};

// C (+)= A B for ROWS rows and VECTORS vectors of columns; C stays in registers.
template <typename V, int ROWS, int VECTORS, bool ADD>
inline __attribute__((always_inline)) void tile(Factor a, const float* __restrict b, int64_t b_row,
                                                float* __restrict c, int64_t c_row, int64_t depth) {
  constexpr int64_t WIDTH = sizeof(V) / sizeof(float);
  V sums[ROWS][VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < VECTORS; ++j) sums[i][j] = ADD ? load<V>(c + i * c_row + j * WIDTH) : V{};
  int64_t k = 0;
  do {
    V v[VECTORS];
#pragma GCC unroll 16
    for (int j = 0; j < VECTORS; ++j) v[j] = load<V>(b + k * b_row + j * WIDTH);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const V x = a.at[i * a.row + k * a.column] - V{};
#pragma GCC unroll 16
      for (int j = 0; j < VECTORS; ++j) sums[i][j] += x * v[j];
    }
  } while (++k < depth);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < VECTORS; ++j) store(c + i * c_row + j * WIDTH, sums[i][j]);
}

template <typename V, int VECTORS, bool ADD>
void strip(Factor a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows,
           int64_t depth) {
  constexpr int ROWS = SUMS / VECTORS > 12 ? 12 : SUMS / VECTORS;
  for (int64_t i = 0; i < rows; i += ROWS)
    tile<V, ROWS, VECTORS, ADD>({a.at + i * a.row, a.row, a.column}, b, b_row, c + i * c_row, c_row,
                                depth);
}

// Columns [j, whole) in strips of at most VECTORS vectors; returns the first column left over.
template <int VECTORS, bool ADD>
int64_t strips(Factor a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows,
               int64_t depth, int64_t j, int64_t whole) {
  for (; whole - j >= VECTORS * FULL; j += VECTORS * FULL)
    strip<Full, VECTORS, ADD>(a, b + j, b_row, c + j, c_row, rows, depth);
  if constexpr (VECTORS > 1)
    return strips<VECTORS - 1, ADD>(a, b, b_row, c, c_row, rows, depth, j, whole);
  return j;
}

// C [rows, columns] (+)= A [rows, depth] B [depth, columns]. C and A are allocated for rows
// up to a multiple of ROUND, C and B for columns up to one of HALF; the padding may hold anything.
template <bool ADD>
void multiply(Factor a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows,
              int64_t columns, int64_t depth) {
  constexpr int MOST = FULL == 16 ? 4 : 2;
  const int64_t whole = columns % FULL > HALF ? up(columns, FULL) : columns / FULL * FULL;
  const int64_t j = strips<MOST, ADD>(a, b, b_row, c, c_row, rows, depth, 0, whole);
  if (j < columns) strip<Half, 1, ADD>(a, b + j, b_row, c + j, c_row, rows, depth);
}
