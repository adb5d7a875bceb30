// Every function here and in the other files is called by all threads of a team (`replay`); they
// share the iterations of its loops and synchronise at the end of each loop.
//
// Matrix products of a step, and elementwise operations between them. The products have the size
// B x 3H x H: too small for the overhead of a BLAS library, and of shapes it is not tuned for.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include <omp.h>

#include "denormals.h"
#include "tiles.h"

// c [m, n] = a b with a strided [m, k] and b [k, n]; `turned`: b is [n, k], and a_column is 1.
// Rows of b and c are b_row and c_row floats apart: they may be columns of wider matrices.
struct Product {
  const float *a, *b;
  float* c;
  int64_t m, n, k, a_row, a_column, b_row, c_row, turned;
};

// out[j] = table[items[j]], rows of `width`.
struct Gather {
  const float* table;
  const int64_t* items;
  float* out;
  int64_t count, width;
};

// out[j] (+)= sum_t weights[t] table[tokens[t]] over the bag items[j].
struct Pool {
  const float* table;
  const int64_t *items, *offsets, *tokens;
  const float* weights;
  float* out;
  int64_t count, width, add;
};

// out = scale x y (+ out), element by element; y may be null (ones).
struct Times {
  const float *x, *y;
  float* out;
  int64_t count, add;
  float scale;
};

// 0 where a 16-bit random number is below `dropped`, else `scale`.
struct Mask {
  const int16_t* words;
  float* out;
  int64_t count, dropped;
  float scale;
};

// The part of a score that depends only on the item: bias - logq log q; each pointer may be null.
// log q is log_support for the first `targets` candidates, alpha log_support for the others.
struct Offset {
  const float *bias, *log_support;
  const int64_t* items;
  float* out;
  int64_t count, targets;
  float logq, alpha;
};

namespace {

constexpr int ROWS = 8, VECTORS = SUMS / ROWS;  // of a tile: 24 or 12 sums
constexpr int64_t WORTH_TURNING = 24;           // rows of a from which transposing b first pays
constexpr int64_t HIGH = 8 * ROWS;              // rows of a unit of work

// Rows [low, high) of c, columns [j, j + WIDE vectors). The last tile is moved back to end at
// `high`, and recomputes some rows.
template <int WIDE>
void columns_of(const Product& p, int64_t low, int64_t high, int64_t j) {
  const auto piece = [&](auto rows, int64_t i) {
    tile<Full, decltype(rows)::value, WIDE, false>({p.a + i * p.a_row, p.a_row, p.a_column},
                                                   p.b + j, p.b_row, p.c + i * p.c_row + j, p.c_row,
                                                   p.k);
  };
  int64_t i = low;
  for (; i + ROWS <= high; i += ROWS) piece(std::integral_constant<int, ROWS>{}, i);
  if (i < high && high - low >= ROWS) return piece(std::integral_constant<int, ROWS>{}, high - ROWS);
  for (; i < high; ++i) piece(std::integral_constant<int, 1>{}, i);
}

void few_columns(const Product& p, int64_t low, int64_t high) {
  for (int64_t i = low; i < high; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      float sum = 0.0f;
      for (int64_t k = 0; k < p.k; ++k)
        sum += p.a[i * p.a_row + k * p.a_column] * p.b[k * p.b_row + j];
      p.c[i * p.c_row + j] = sum;
    }
}

// c[i, j] = a_i . b_j for TALL rows of a and TALL of b.
template <int TALL>
void dots(const Product& p, int64_t i, int64_t j) {
  Full sums[TALL][TALL]{};
  for (int64_t k = 0; k < p.k; k += FULL) {
    const int64_t m = p.k - k;
    Full x[TALL], y[TALL];
#pragma GCC unroll 4
    for (int t = 0; t < TALL; ++t) {
      x[t] = some(p.a + (i + t) * p.a_row + k, m);
      y[t] = some(p.b + (j + t) * p.b_row + k, m);
    }
#pragma GCC unroll 4
    for (int r = 0; r < TALL; ++r)
#pragma GCC unroll 4
      for (int t = 0; t < TALL; ++t) sums[r][t] += x[r] * y[t];
  }
  for (int r = 0; r < TALL; ++r)
    for (int t = 0; t < TALL; ++t) p.c[(i + r) * p.c_row + j + t] = total(sums[r][t]);
}

void turned(const Product& p) {
  constexpr int TALL = 4;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < p.m; i += TALL) {
    if (p.m < TALL || p.n < TALL) {
      for (int64_t r = i; r < p.m && r < i + TALL; ++r)
        for (int64_t j = 0; j < p.n; ++j) dots<1>(p, r, j);
      continue;
    }
    const int64_t row = i + TALL <= p.m ? i : p.m - TALL;
    for (int64_t j = 0; j < p.n; j += TALL) dots<TALL>(p, row, j + TALL <= p.n ? j : p.n - TALL);
  }
}

}  // namespace

extern "C" void product(const Product* given) {
  const Product& p = *given;
  if (p.turned && p.m < WORTH_TURNING) return turned(p);
  if (p.turned) {
    const Shared room(p.k * p.n);
    float* const b = room;
#pragma omp for schedule(static)
    for (int64_t k = 0; k < p.k; k += LINE)
      for (int64_t j = 0; j < p.n; ++j)
        for (int64_t l = k; l < p.k && l < k + LINE; ++l) b[l * p.n + j] = p.b[j * p.b_row + l];
    const Product straight{p.a, b, p.c, p.m, p.n, p.k, p.a_row, p.a_column, p.n, p.c_row, 0};
    return product(&straight);
  }
  constexpr int64_t WIDE = VECTORS * FULL;
  const int64_t strips = p.n / WIDE + 1, pieces = (p.m + HIGH - 1) / HIGH;
#pragma omp for schedule(static)
  for (int64_t unit = 0; unit < strips * pieces; ++unit) {
    const int64_t low = unit / strips * HIGH, high = p.m < low + HIGH ? p.m : low + HIGH;
    const int64_t strip = unit % strips, j = strip * WIDE;
    if (strip < strips - 1) {
      columns_of<VECTORS>(p, low, high, j);
    } else if (p.n < FULL) {
      few_columns(p, low, high);
    } else {  // the remaining columns, of which the last vector recomputes some
      for (int64_t l = j; l < p.n; l += FULL)
        columns_of<1>(p, low, high, l + FULL <= p.n ? l : p.n - FULL);
    }
  }
}

extern "C" void gather(const Gather* given) {
  const Gather& g = *given;
#pragma omp for schedule(static)
  for (int64_t j = 0; j < g.count; ++j) {
    if (j + 8 < g.count) {
      const float* ahead = g.table + g.items[j + 8] * g.width;
      for (int64_t d = 0; d < g.width; d += LINE) __builtin_prefetch(ahead + d);
    }
    std::memcpy(g.out + j * g.width, g.table + g.items[j] * g.width, 4 * g.width);
  }
}

extern "C" void pool(const Pool* given) {
  const Pool& p = *given;
#pragma omp for schedule(static)
  for (int64_t b = 0; b < p.count; ++b) {
    float* __restrict sum = p.out + b * p.width;
    if (!p.add) std::memset(sum, 0, 4 * p.width);
    for (int64_t t = p.offsets[p.items[b]]; t < p.offsets[p.items[b] + 1]; ++t) {
      const float* row = p.table + p.tokens[t] * p.width;
      const float scale = p.weights[t];
      for (int64_t d = 0; d < p.width; ++d) sum[d] += scale * row[d];
    }
  }
}

extern "C" void times(const Times* given) {
  const Times& t = *given;
#pragma omp for schedule(static)
  for (int64_t k = 0; k < t.count; ++k) {
    const float value = t.scale * t.x[k] * (t.y ? t.y[k] : 1.0f);
    t.out[k] = t.add ? t.out[k] + value : value;
  }
}

extern "C" void mask(const Mask* given) {
  const Mask& m = *given;
  const int32_t lowest = static_cast<int32_t>(m.dropped) - 32768;
#pragma omp for schedule(static)
  for (int64_t k = 0; k < m.count; ++k) m.out[k] = m.words[k] >= lowest ? m.scale : 0.0f;
}

extern "C" void offset(const Offset* given) {
  const Offset& o = *given;
#pragma omp for schedule(static)
  for (int64_t c = 0; c < o.count; ++c) {
    const int64_t item = o.items ? o.items[c] : c;
    const float bias = o.bias ? o.bias[item] : 0.0f;
    const float log_q = o.log_support ? o.log_support[item] : 0.0f;
    o.out[c] = bias - o.logq * (c < o.targets ? log_q : o.alpha * log_q);
  }
}

// One of these functions, and its arguments.
struct Call {
  void (*function)(const void*);
  const void* arguments;
};

// Makes all calls, one after another, with all threads of a team.
extern "C" void replay(const Call* calls, int64_t count, int64_t threads) {
#pragma omp parallel num_threads(threads)
  {
    const NoDenormals here;
    for (int64_t k = 0; k < count; ++k) calls[k].function(calls[k].arguments);
  }
}

extern "C" int64_t size_of_product() { return sizeof(Product); }
extern "C" int64_t size_of_gather() { return sizeof(Gather); }
extern "C" int64_t size_of_pool() { return sizeof(Pool); }
extern "C" int64_t size_of_times() { return sizeof(Times); }
extern "C" int64_t size_of_mask() { return sizeof(Mask); }
extern "C" int64_t size_of_offset() { return sizeof(Offset); }
extern "C" int64_t size_of_call() { return sizeof(Call); }
