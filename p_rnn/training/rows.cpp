// Adagrad on the rows of a table that a step read, in one pass over them: sum the gradients of the
// reads of a row, then move the row and its slots. See p_rnn/training/native.py.
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t AHEAD = 4;         // rows; their cache lines are asked for before their turn
constexpr int64_t LINE = 16;         // floats of a cache line
constexpr int64_t WORTH_THREADS = 16384;  // floats; below, waking a thread takes longer

void ask_for(const float* row, int64_t width) {
  for (int64_t d = 0; d < width; d += LINE) __builtin_prefetch(row + d, 1);
}

}  // namespace

// Segment u of `order` and `weights` (or null) begins at starts[u]; it holds the reads of row
// rows[u], as rows of `source` [., width]. Rows that are `scratch` are padding. `velocity` is null
// where there is no momentum.
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
