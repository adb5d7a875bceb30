// What PyTorch's operations would take several passes over memory for, in one. See p_rnn/native.py.
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <vector>

#include <omp.h>

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

namespace {

// e^x to 2 ulp, in operations that compilers turn into vectors; 1e-38 where x < -87 (Cephes' expf).
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
  const float n = shifted - 12582912.0f;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return p * power;
}

// Rows of scores [rows, columns], to each of which `offset` [columns] (or null) is added.
struct Scores {
  float* x;
  const float* offset;
  const int64_t* target;
  int64_t rows, columns;

  // Row b with the offset, in memory of the caller.
  const float* row(int64_t b, float* __restrict y) const {
    const float* __restrict own = x + b * columns;
    if (!offset) return own;
    for (int64_t c = 0; c < columns; ++c) y[c] = own[c] + offset[c];
    return y;
  }
};

float highest(const float* y, int64_t from, int64_t to, float m) {
#pragma omp simd reduction(max : m)
  for (int64_t c = from; c < to; ++c) m = y[c] > m ? y[c] : m;
  return m;
}

// Calls `change(b, buffer)` for each row, which then holds its gradient, and sums the columns of
// the rows into `sums` [columns], or not where that is null; always in the same order.
template <typename Change>
void backward(const Scores& s, float* sums, const Change& change) {
  std::vector<float> parts;
#pragma omp parallel if (s.rows * s.columns > WORTH_THREADS)
  {
    const int64_t threads = omp_get_num_threads(), own = omp_get_thread_num();
#pragma omp single
    parts.assign(sums ? threads * s.columns : 0, 0.0f);
    std::vector<float> buffer(s.columns);
#pragma omp for schedule(static)
    for (int64_t b = 0; b < s.rows; ++b) {
      change(b, buffer.data());
      if (!sums) continue;
      const float* __restrict dx = s.x + b * s.columns;
      float* __restrict part = parts.data() + own * s.columns;
      for (int64_t c = 0; c < s.columns; ++c) part[c] += dx[c];
    }
    if (sums) {
#pragma omp for schedule(static)
      for (int64_t c = 0; c < s.columns; ++c) {
        float total = 0.0f;
        for (int64_t t = 0; t < threads; ++t) total += parts[t * s.columns + c];
        sums[c] = total;
      }
    }
  }
}

}  // namespace

// losses[b] = -log softmax_t(x_b + offset); keeps highest and sum of the exponentials in kept[b].
extern "C" void cross_entropy_forward(float* x, const float* offset, const int64_t* target,
                                      float* losses, float* kept, int64_t rows, int64_t columns) {
  const Scores s{x, offset, target, rows, columns};
#pragma omp parallel if (rows * columns > WORTH_THREADS)
  {
    std::vector<float> buffer(columns);
#pragma omp for schedule(static)
    for (int64_t b = 0; b < rows; ++b) {
      const float* y = s.row(b, buffer.data());
      const float m = highest(y, 0, columns, -INFINITY);
      float total = 0.0f;
#pragma omp simd reduction(+ : total)
      for (int64_t c = 0; c < columns; ++c) total += exponential(y[c] - m);
      losses[b] = std::log(total) + m - y[target[b]];
      kept[2 * b] = m, kept[2 * b + 1] = total;
    }
  }
}

// x becomes the gradient of the losses, times gradient[b]; `sums` that of `offset`.
extern "C" void cross_entropy_backward(float* x, const float* offset, const int64_t* target,
                                       const float* kept, const float* gradient, float* sums,
                                       int64_t rows, int64_t columns) {
  const Scores s{x, offset, target, rows, columns};
  backward(s, sums, [&](int64_t b, float* buffer) {
    const float* y = s.row(b, buffer);
    float* dx = s.x + b * s.columns;
    const float m = kept[2 * b], scale = gradient[b] / kept[2 * b + 1];
    const int64_t end = s.columns;
#pragma omp simd
    for (int64_t c = 0; c < end; ++c) dx[c] = exponential(y[c] - m) * scale;
    dx[target[b]] -= gradient[b];
  });
}

namespace {

// ELU; alpha = 0 means linear.
inline float elu(float x, float alpha) {
  const float below = alpha * (exponential(x) - 1.0f);
  return x > 0.0f || alpha == 0.0f ? x : below;
}

struct Sums {
  float s = 0, sg = 0, sgg = 0, soo = 0;  // of e, e g, e g^2, e o^2

  // g = sigma(o_t - o) = 1 / (1 + e ratio), with e = exp(o - m) and ratio = exp(m - o_t).
  void add(const float* o, int64_t from, int64_t to, float m, float ratio) {
    float a = s, b = sg, c = sgg, d = soo;
#pragma omp simd reduction(+ : a, b, c, d)
    for (int64_t j = from; j < to; ++j) {
      const float e = exponential(o[j] - m), g = 1.0f / (1.0f + e * ratio);
      a += e, b += e * g, c += e * g * g, d += e * o[j] * o[j];
    }
    s = a, sg = b, sgg = c, soo = d;
  }
};

// Row b as o = ELU(x + offset).
const float* activated(const Scores& scores, int64_t b, float alpha, float* buffer) {
  const float* y = scores.row(b, buffer);
  if (alpha == 0.0f) return y;
  for (int64_t c = 0; c < scores.columns; ++c) buffer[c] = elu(y[c], alpha);
  return buffer;
}

}  // namespace

// losses[b] = -log(m + 1e-24) + bpreg r, in the letters of p_rnn/training/losses.py; keeps the
// highest o, the sum of the exponentials, m, r and sum_j s_j g_j^2 in kept[b].
extern "C" void bpr_max_forward(float* x, const float* offset, const int64_t* target, float* losses,
                                float* kept, int64_t rows, int64_t columns, float alpha,
                                float bpreg) {
  const Scores scores{x, offset, target, rows, columns};
#pragma omp parallel if (rows * columns > WORTH_THREADS)
  {
    std::vector<float> buffer(columns);
#pragma omp for schedule(static)
    for (int64_t b = 0; b < rows; ++b) {
      const float* o = activated(scores, b, alpha, buffer.data());
      const int64_t t = target[b];
      const float m = highest(o, t + 1, columns, highest(o, 0, t, -INFINITY));
      const float ratio = std::exp(m - o[t]);
      Sums sums;
      sums.add(o, 0, t, m, ratio);
      sums.add(o, t + 1, columns, m, ratio);
      const float mean = sums.sg / sums.s + 1e-24f, r = sums.soo / sums.s;
      losses[b] = bpreg * r - std::log(mean) + 0.0f * o[t];  // NaN where the target's is not finite
      const float values[] = {m, sums.s, mean, r, sums.sgg / sums.s};
      for (int k = 0; k < 5; ++k) kept[5 * b + k] = values[k];
    }
  }
}

extern "C" void bpr_max_backward(float* x, const float* offset, const int64_t* target,
                                 const float* kept, const float* gradient, float* sums,
                                 int64_t rows, int64_t columns, float alpha, float bpreg) {
  const Scores scores{x, offset, target, rows, columns};
  backward(scores, sums, [&](int64_t b, float* buffer) {
    const float* o = activated(scores, b, alpha, buffer);
    float* dx = scores.x + b * scores.columns;
    const int64_t t = target[b], end = scores.columns;
    // The slope of ELU, from its result.
    const float linear = alpha == 0.0f ? -INFINITY : 0.0f, a = alpha, reg = bpreg;
    const float m = kept[5 * b], mean = kept[5 * b + 2], o_t = o[t];
    const float ratio = std::exp(m - o_t), inverse = 1.0f / mean;
    const float scale = gradient[b] / kept[5 * b + 1];
    const float constant = 1.0f - 1e-24f * inverse - bpreg * kept[5 * b + 3];
#pragma omp simd
    for (int64_t j = 0; j < end; ++j) {
      const float e = exponential(o[j] - m), g = 1.0f / (1.0f + e * ratio);
      const float d = constant - g * g * inverse + reg * (o[j] * o[j] + 2.0f * o[j]);
      dx[j] = scale * e * d * (o[j] > linear ? 1.0f : o[j] + a);
    }
    const float slope = o_t > linear ? 1.0f : o_t + a;
    dx[t] = gradient[b] * slope * (kept[5 * b + 4] - (mean - 1e-24f)) * inverse;
  });
}
