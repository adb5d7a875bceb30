// What PyTorch's operations would take several passes over memory for, in one. See p_rnn/native.py.
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t AHEAD = 4;         // rows; their cache lines are asked for before their turn
constexpr int64_t LINE = 16;         // floats of a cache line
constexpr int64_t WORTH_THREADS = 16384;  // floats; with fewer, waking a thread takes longer

void ask_for(const float* row, int64_t width) {
  for (int64_t d = 0; d < width; d += LINE) __builtin_prefetch(row + d, 1);
}

}  // namespace

// Adagrad on the rows of a table that a step read: the gradients of the reads of a row are summed,
// then the row and its slots move. Segment u of `order` and `weights` (or null) begins at starts[u];
// it holds the reads of row rows[u], as rows of `source` [., width]. Rows that are `scratch` are
// padding. `velocity` is null where there is no momentum.
extern "C" void adagrad_rows(float* weight, float* acc, float* velocity, const float* source,
                             const int64_t* rows, const int64_t* starts, const int64_t* order,
                             const float* weights, int64_t count, int64_t reads, int64_t width,
                             int64_t scratch, float lr, float momentum, float eps) {
#pragma omp parallel if (count * width > WORTH_THREADS)
  {
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
      const float* __restrict g = source + order[j] * width;
      if (end - j > 1 || weights) {
        for (int64_t d = 0; d < width; ++d) sum[d] = 0.0f;
        for (; j < end; ++j) {
          const float* read = source + order[j] * width;
          const float scale = weights ? weights[j] : 1.0f;
          for (int64_t d = 0; d < width; ++d) sum[d] += scale * read[d];
        }
        g = sum.data();
      }
      float* __restrict w = weight + row * width;
      float* __restrict a = acc + row * width;
      if (velocity) {
        float* __restrict v = velocity + row * width;
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
  }
}

// Adds to at_least[b] and above[b] how many scores of row b of `block` [rows, columns] are >= and >
// own[b], and to *bad how many are NaN or infinite.
extern "C" void count_scores(const float* block, const float* own, int64_t* at_least,
                             int64_t* above, int64_t* bad, int64_t rows, int64_t columns) {
  int64_t all_bad = 0;
#pragma omp parallel for schedule(static) reduction(+ : all_bad) if (rows * columns > WORTH_THREADS)
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
  *bad += all_bad;
}
