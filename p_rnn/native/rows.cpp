// Rows of tables, and rows of scores, in one pass where PyTorch's operations take several.

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <vector>

#include <omp.h>

#include "denormals.h"
#include "tiles.h"

namespace {

constexpr int64_t AHEAD = 8;  // rows; memory is asked for them before their turn

void ask_for(const float* row, int64_t width) {
  for (int64_t d = 0; d < width; d += LINE) __builtin_prefetch(row + d, 1);
}

struct Adagrad {
  float *weight, *acc, *velocity;  // velocity is null where there is no momentum
  float lr, momentum, eps;

  void move(int64_t from, const float* __restrict g, int64_t width) const {
    float *__restrict w = weight + from, *__restrict a = acc + from;
    if (velocity) {
      float* __restrict v = velocity + from;
      for (int64_t d = 0; d < width; ++d) {
        a[d] += g[d] * g[d];
        v[d] = momentum * v[d] - lr * (g[d] / std::sqrt(a[d] + eps));
        w[d] += v[d];
      }
    } else {
      for (int64_t d = 0; d < width; ++d) {
        a[d] += g[d] * g[d];
        w[d] -= lr * (g[d] / std::sqrt(a[d] + eps));
      }
    }
  }
};

// Rows [., width] of several matrices, counted through: those of matrix k end at ends[k].
struct Sources {
  const float* const* at;
  const int64_t* ends;
  int64_t width;

  const float* operator[](int64_t row) const {
    int64_t k = 0, first = 0;
    while (row >= ends[k]) first = ends[k++];
    return at[k] + (row - first) * width;
  }
};

}  // namespace

// Adagrad on the rows of a table that a step read: the gradients of the reads of a row are summed,
// then the row and its slots move. Segment u of `order` and `weights` (or null) begins at starts[u];
// it holds the reads of row rows[u], as rows of the sources. Rows that are `scratch` are padding.
extern "C" void adagrad_rows(float* weight, float* acc, float* velocity,
                             const float* const* sources, const int64_t* ends, const int64_t* rows,
                             const int64_t* starts, const int64_t* order, const float* weights,
                             int64_t count, int64_t reads, int64_t width, int64_t scratch, float lr,
                             float momentum, float eps) {
  const Adagrad rule{weight, acc, velocity, lr, momentum, eps};
  const Sources source{sources, ends, width};
#pragma omp parallel if (count * width > WORTH_THREADS)
  {
    const NoDenormals here;
    std::vector<float> sum(width);
#pragma omp for schedule(static, 32)
    for (int64_t u = 0; u < count; ++u) {
      const int64_t row = rows[u];
      if (row == scratch) continue;
      if (u + AHEAD < count) {
        const int64_t next = rows[u + AHEAD] * width;
        ask_for(weight + next, width);
        ask_for(acc + next, width);
        if (velocity) ask_for(velocity + next, width);
      }
      const int64_t end = u + 1 < count ? starts[u + 1] : reads;
      int64_t j = starts[u];
      const float* g = source[order[j]];
      if (end - j > 1 || weights) {
        for (int64_t d = 0; d < width; ++d) sum[d] = 0.0f;
        for (; j < end; ++j) {
          const float* read = source[order[j]];
          const float scale = weights ? weights[j] : 1.0f;
          for (int64_t d = 0; d < width; ++d) sum[d] += scale * read[d];
        }
        g = sum.data();
      }
      if (width == 1)
        rule.move(row, g, 1);  // without the set-up of vectors
      else
        rule.move(row * width, g, width);
    }
  }
}

// Adds to at_least[b] and above[b] how many scores of row b of `block` [rows, columns] are >= and >
// own[b], and to *bad how many are NaN or infinite.
extern "C" void count_scores(const float* block, const float* own, int64_t* at_least,
                             int64_t* above, int64_t* bad, int64_t rows, int64_t columns) {
  int64_t all_bad = 0;
#pragma omp parallel reduction(+ : all_bad) if (rows * columns > WORTH_THREADS)
  {
    const NoDenormals here;
#pragma omp for schedule(static)
    for (int64_t b = 0; b < rows; ++b) {
      const float* __restrict row = block + b * columns;
      const float mine = own[b];
      int32_t not_less = 0, more = 0, odd = 0;
#pragma omp simd reduction(+ : not_less, more, odd)
      for (int64_t c = 0; c < columns; ++c) {
        not_less += row[c] >= mine;
        more += row[c] > mine;
        odd += !(std::fabs(row[c]) <= FLT_MAX);
      }
      at_least[b] += not_less;
      above[b] += more;
      all_bad += odd;
    }
  }
  *bad += all_bad;
}
