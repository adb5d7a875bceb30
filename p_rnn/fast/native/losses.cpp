// Scores, loss and gradients of a step, chunk by chunk of the candidates so that scores stay in the
// caches. See p_rnn/fast/tails.py.

#include <cmath>
#include <cstdint>
#include <cstring>

#include <omp.h>

#include "denormals.h"
#include "rules.h"

namespace {

// Calls `act` for each vector of examples, with the chunk of candidates that begins at `from`.
template <typename Act>
void blocks(const Step& s, const int32_t* targets, int64_t from, const Act& act) {
  const int64_t n = s.size(from);
  const float* offset = s.offset ? s.offset + from : nullptr;
  for (int64_t b = 0; b < s.lanes(); b += FULL) {
    Block block{s.scores + from * s.row() + b, offset, s.row(), from, n, b, Whole{}, false};
    std::memcpy(&block.target, targets + b, sizeof block.target);
    int32_t found = 0;
#pragma omp simd reduction(| : found)
    for (int64_t k = 0; k < FULL; ++k)
      found |= (targets[b + k] >= from) & (targets[b + k] < from + n);
    block.has_target = found;
    act(block);
  }
}

// turned[d, b] = queries[b, d]; shared by the threads.
void turn(const float* queries, int64_t examples, int64_t width, float* turned, int64_t row) {
#pragma omp for schedule(static) nowait
  for (int64_t b = 0; b < examples; b += LINE) {
    const int64_t end = b + LINE < examples ? b + LINE : examples;
    for (int64_t d = 0; d < width; ++d)
      for (int64_t k = b; k < end; ++k) turned[d * row + k] = queries[k * width + d];
  }
}

// Merges the states of all threads into the first; sums are relative to the highest score.
template <typename Rule>
void join(float* states, int64_t row, int64_t team, int64_t b) {
  const Rows total{states, row};
  for (int64_t t = 1; t < team; ++t) {
    const Rows other{states + t * Rule::STATE * row, row};
    const float a = total[0][b], z = other[0][b], m = a > z ? a : z;
    for (int k = 1; k < Rule::STATE; ++k)
      total[k][b] = total[k][b] * std::exp(a - m) + other[k][b] * std::exp(z - m);
    total[0][b] = m;
  }
}

template <typename Rule>
void forward(const Step& s, const Rule& loss, float* keep, float* losses) {
  const int64_t row = s.row(), lanes = s.lanes(), deep = s.before(s.terms);
  const int64_t threads = omp_get_num_threads();
  const Shared room(row + deep * row + threads * Rule::STATE * row);
  float *const own = room, *const turned = own + row, *const states = turned + deep * row;
  const int32_t* const targets = s.targets;
  {
    const Rows state{states + omp_get_thread_num() * Rule::STATE * row, row};
    std::memset(state.at, 0, 4 * Rule::STATE * row);
    for (int64_t b = 0; b < lanes; ++b) state.at[b] = LOWEST;
    Buffer rows(CHUNK * deep);
    for (int64_t p = 0; p < s.terms; ++p)
      turn(s.queries[p], s.examples, s.widths[p], turned + s.before(p) * row, row);
    if (Rule::TARGET_FIRST) {
#pragma omp for schedule(static) nowait
      for (int64_t b = 0; b < s.examples; ++b)
        own[b] = loss.activated(all(s.score_of_target(b)))[0];
    }
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t from = 0; from < s.candidates; from += CHUNK) {
      float* scores = s.scores + from * row;
      for (int64_t p = 0; p < s.terms; ++p) {
        s.gather(p, from, s.size(from), rows);
        const Factor a{rows, stride(s.widths[p]), 1};
        const float* q = turned + s.before(p) * row;
        p == 0 ? multiply<false>(a, q, row, scores, row, s.size(from), lanes, s.widths[p])
               : multiply<true>(a, q, row, scores, row, s.size(from), lanes, s.widths[p]);
      }
      blocks(s, targets, from, [&](const Block& block) { loss.add(block, state, own); });
    }
#pragma omp for schedule(static)
    for (int64_t b = 0; b < s.examples; ++b) {
      join<Rule>(states, row, omp_get_num_threads(), b);
      if (!Rule::TARGET_FIRST) own[b] = s.scores[s.target[b] * row + b];
      loss.finish(Rows{states, row}, Rows{keep, row}, own, losses, b);
    }
  }
}

// Where to write gradients: of queries [B, D_p], rows [C, D_p] and offset [C]; each may be null.
struct Wanted {
  float* const* queries;
  float* const* rows;
  float* offset;
};

// out[c] = sum_b slopes[c, b]
void add_up(const float* slopes, int64_t row, int64_t count, int64_t examples, float* out) {
  for (int64_t c = 0; c < count; ++c) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t b = 0; b < examples; ++b) sum += slopes[c * row + b];
    out[c] = sum;
  }
}

// Gradients of a chunk of rows, out[c] = sum_b slopes[c, b] query_b; `sums` is working memory.
void gradient_of_rows(const float* slopes, int64_t row, const float* queries, int64_t width,
                      int64_t count, int64_t examples, float* sums, float* out) {
  const int64_t line = stride(width);
  for (int64_t b = 0; b < examples; b += DEPTH) {
    const int64_t depth = examples - b < DEPTH ? examples - b : DEPTH;
    const Factor a{slopes + b, row, 1};
    b == 0 ? multiply<false>(a, queries, line, sums, line, count, width, depth)
           : multiply<true>(a, queries + b * line, line, sums, line, count, width, depth);
  }
  for (int64_t c = 0; c < count; ++c) std::memcpy(out + c * width, sums + c * line, 4 * width);
}

// Sums the threads' parts [B, line], which are `apart` floats apart, into out [B, width].
void join_parts(const float* parts, int64_t apart, int64_t line, int64_t examples, int64_t width,
                float* out) {
  const int64_t team = omp_get_num_threads();  // may be fewer than were asked for
#pragma omp for schedule(static) nowait
  for (int64_t b = 0; b < examples; ++b) {
    float* __restrict total = out + b * width;
    std::memcpy(total, parts + b * line, 4 * width);
    for (int64_t t = 1; t < team; ++t) {
      const float* part = parts + t * apart + b * line;
      for (int64_t d = 0; d < width; ++d) total[d] += part[d];
    }
  }
}

template <typename Rule>
void backward(const Step& s, const Rule& loss, const float* keep, float gradient,
              const Wanted& wanted) {
  const int64_t row = s.row(), deep = s.before(s.terms), high = up(s.examples, ROUND);
  const int64_t threads = omp_get_num_threads();
  const Kept kept{keep, row};
  const Shared room(row + high * deep + threads * high * deep);
  float *const weight = room, *const queries = weight + row, *const parts = queries + high * deep;
  const int32_t* const targets = s.targets;
  {
#pragma omp for schedule(static) nowait
    for (int64_t b = 0; b < row; ++b) weight[b] = gradient;
    float* part = parts + omp_get_thread_num() * high * deep;
    Buffer rows(CHUNK * deep), sums(CHUNK * deep), slopes(CHUNK * row + ROUND);
    for (int64_t p = 0; p < s.terms; ++p) {
      const int64_t width = s.widths[p];
      float* into = queries + s.before(p) * high;
#pragma omp for schedule(static) nowait
      for (int64_t b = 0; b < s.examples; ++b)
        std::memcpy(into + b * stride(width), s.queries[p] + b * width, 4 * width);
    }
    bool first = true;
#pragma omp barrier
#pragma omp for schedule(static) nowait
    for (int64_t from = 0; from < s.candidates; from += CHUNK) {
      const int64_t n = s.size(from);
      blocks(s, targets, from, [&](const Block& block) {
        loss.slopes(block, kept, weight, slopes + block.example);
        for (int64_t k = 0; block.has_target && k < FULL; ++k) {
          const int64_t c = block.target[k] - from, b = block.example + k;
          if (c >= 0 && c < n) loss.correct(slopes + c * row + b, kept, weight, b);
        }
      });
      if (wanted.offset) add_up(slopes, row, n, s.examples, wanted.offset + from);
      for (int64_t p = 0; p < s.terms; ++p) {
        const int64_t width = s.widths[p], line = stride(width), at = s.before(p) * high;
        if (wanted.rows[p])
          gradient_of_rows(slopes, row, queries + at, width, n, s.examples, sums,
                           wanted.rows[p] + from * width);
        if (!wanted.queries[p]) continue;
        s.gather(p, from, n, rows);
        const Factor a{slopes, 1, row};
        first ? multiply<false>(a, rows, line, part + at, line, s.examples, width, n)
              : multiply<true>(a, rows, line, part + at, line, s.examples, width, n);
      }
      first = false;
    }
    if (first) std::memset(part, 0, 4 * high * deep);
#pragma omp barrier
    for (int64_t p = 0; p < s.terms; ++p)
      if (wanted.queries[p])
        join_parts(parts + s.before(p) * high, high * deep, stride(s.widths[p]), s.examples,
                   s.widths[p], wanted.queries[p]);
  }
}

}  // namespace

// Inputs, working memory and outputs of a loss; gradients that are null are not computed. `mean` is
// the sum of the losses times `gradient`.
struct Loss {
  Step step;
  float *kept, *losses, *mean;
  float *const *of_queries, *const *of_rows;
  float* of_offset;
  float gradient, alpha, bpreg;
};

namespace {

template <typename Rule>
void both(const Loss& l, const Rule& rule) {
#pragma omp single
  l.step.find_targets();
  forward(l.step, rule, l.kept, l.losses);
  backward(l.step, rule, l.kept, l.gradient, {l.of_queries, l.of_rows, l.of_offset});
#pragma omp single nowait
  {
    float sum = 0.0f;
    for (int64_t b = 0; b < l.step.examples; ++b) sum += l.losses[b];
    *l.mean = sum * l.gradient;
  }
}

}  // namespace

// losses[b] = -log softmax_t(x_b), and the gradients of the losses, times `gradient`.
extern "C" void cross_entropy(const Loss* loss) { both(*loss, CrossEntropy{}); }

// losses[b] = -log(m + 1e-24) + bpreg r, and the gradients of the losses, times `gradient`.
extern "C" void bpr_max(const Loss* loss) { both(*loss, BprMax{loss->alpha, loss->bpreg}); }

// losses[b] = (sum_j sigma(o_j - o_t) + sigma(o_j^2) - sigma(o_t^2)) / C, and their gradients.
extern "C" void top1(const Loss* loss) {
  both(*loss, Top1{1.0f / static_cast<float>(loss->step.candidates)});
}

// For the Python side: the size of the struct, and how many floats scores and kept values need.
extern "C" int64_t size_of_loss() { return sizeof(Loss); }
extern "C" int64_t room_for_scores(int64_t examples, int64_t candidates) {
  return up(candidates, CHUNK) * stride(examples);
}
extern "C" int64_t room_for_kept(int64_t examples) {
  return stride(examples) * (CrossEntropy::KEPT > BprMax::KEPT ? CrossEntropy::KEPT : BprMax::KEPT);
}
