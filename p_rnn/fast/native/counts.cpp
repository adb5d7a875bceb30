// Counts of scores in one pass, where PyTorch needs several.

#include <cfloat>
#include <cmath>
#include <cstdint>

// Scores `block` [rows, columns], the scores `own` [rows] to compare them with, and the counts.
struct Counting {
  const float *block, *own;
  int64_t *at_least, *above, *bad;
  int64_t rows, columns;
};

extern "C" int64_t size_of_counting() { return sizeof(Counting); }

// Adds to at_least[b] and above[b] how many scores of row b are >= and > own[b], and to *bad how
// many are NaN or infinite.
extern "C" void count_scores(const Counting* given) {
  const Counting& g = *given;
  const float *const block = g.block, *const own = g.own;
  int64_t *const at_least = g.at_least, *const above = g.above, *const bad = g.bad;
  const int64_t rows = g.rows, columns = g.columns;
  int64_t all_bad = 0;
  {
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
#pragma omp atomic
  *bad += all_bad;
}
