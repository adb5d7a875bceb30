// The losses, for vectors of examples: `add` accumulates a chunk of candidates, `finish` computes
// the losses from what was accumulated, `slopes` the gradients of the scores of a chunk, and
// `correct` those of the targets' scores. Variables are named as in p_rnn/training/losses.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "step.h"

inline Full larger(Full a, Full b) { return a > b ? a : b; }

struct CrossEntropy {
  static constexpr int STATE = 2, KEPT = 2;  // highest score, sum of the exponentials
  static constexpr bool TARGET_FIRST = false;

  Full activated(Full x) const { return x; }

  // Also adds the offset to the scores.
  void add(const Block& block, Rows state, const float*) const {
    const int64_t b = block.example;
    const Full before = load<Full>(state[0] + b);
    Full m = before, sum{};
    for (int64_t c = 0; c < block.count; ++c) {
      const Full x = block.shifted(c);
      store(block.scores + c * block.row, x);
      m = larger(x, m);
    }
    for (int64_t c = 0; c < block.count; ++c)
      sum += exponential(load<Full>(block.scores + c * block.row) - m);
    store(state[0] + b, m);
    store(state[1] + b, load<Full>(state[1] + b) * exponential(before - m) + sum);
  }

  void finish(Rows state, Rows kept, const float* own, float* losses, int64_t b) const {
    kept[0][b] = state[0][b], kept[1][b] = state[1][b];
    losses[b] = std::log(state[1][b]) + state[0][b] - own[b];
  }

  void slopes(const Block& block, Kept kept, const float* gradient, float* out) const {
    const int64_t b = block.example;
    const Full m = load<Full>(kept[0] + b);
    const Full scale = load<Full>(gradient + b) / load<Full>(kept[1] + b);
    for (int64_t c = 0; c < block.count; ++c) {
      const int64_t at = c * block.row;
      store(out + at, exponential(load<Full>(block.scores + at) - m) * scale);
    }
  }

  void correct(float* slope, Kept, const float* gradient, int64_t b) const {
    *slope -= gradient[b];
  }
};

struct BprMax {
  // State: highest negative, and sums of e, e g, e g^2, e o^2. Kept: highest negative, sum of e,
  // m, r, sum_j s_j g_j^2 and o_t.
  static constexpr int STATE = 5, KEPT = 6;
  static constexpr bool TARGET_FIRST = true;
  float alpha, bpreg;

  Full activated(Full x) const {
    if (alpha == 0.0f) return x;
    return x > Full{} ? x : alpha * (exponential(x) - 1.0f);
  }

  void add(const Block& block, Rows state, const float* own) const {
    block.has_target ? add<true>(block, state, own) : add<false>(block, state, own);
  }

  // g = sigma(o_t - o) = 1 / (1 + e ratio), with e = exp(o - m) and ratio = exp(m - o_t).
  template <bool MASKED>
  void add(const Block& block, Rows state, const float* own) const {
    const int64_t b = block.example;
    const Full before = load<Full>(state[0] + b);
    Full m = before;
    for (int64_t c = 0; c < block.count; ++c) {
      const Full o = activated(block.shifted(c));
      store(block.scores + c * block.row, o);
      m = larger(MASKED ? (block.is_target(c) ? m : o) : o, m);
    }
    const Full ratio = exponential(m - load<Full>(own + b));
    Full sums[4] = {};
    for (int64_t c = 0; c < block.count; ++c) {
      const Full o = load<Full>(block.scores + c * block.row);
      Full e = exponential(o - m), square = o * o;
      const Full g = 1.0f / (1.0f + e * ratio);
      if (MASKED) {
        e = block.is_target(c) ? Full{} : e;
        square = block.is_target(c) ? Full{} : square;
      }
      sums[0] += e, sums[1] += e * g, sums[2] += e * g * g, sums[3] += e * square;
    }
    const Full scale = exponential(before - m);
    store(state[0] + b, m);
    for (int k = 0; k < 4; ++k)
      store(state[k + 1] + b, load<Full>(state[k + 1] + b) * scale + sums[k]);
  }

  void finish(Rows state, Rows kept, const float* own, float* losses, int64_t b) const {
    const float sum = state[1][b], mean = state[2][b] / sum + 1e-24f, r = state[4][b] / sum;
    // NaN where the target's score is not finite.
    losses[b] = bpreg * r - std::log(mean) + 0.0f * own[b];
    const float values[KEPT] = {state[0][b], sum, mean, r, state[3][b] / sum, own[b]};
    for (int k = 0; k < KEPT; ++k) kept[k][b] = values[k];
  }

  void slopes(const Block& block, Kept kept, const float* gradient, float* out) const {
    const int64_t b = block.example;
    const Full m = load<Full>(kept[0] + b), inverse = 1.0f / load<Full>(kept[2] + b);
    const Full ratio = exponential(m - load<Full>(kept[5] + b));
    const Full scale = load<Full>(gradient + b) / load<Full>(kept[1] + b);
    const Full constant = 1.0f - 1e-24f * inverse - bpreg * load<Full>(kept[3] + b);
    // The derivative of ELU, from its result: 1 where o > linear, else o + alpha.
    const Full linear = all(alpha == 0.0f ? -INFINITY : 0.0f);
    for (int64_t c = 0; c < block.count; ++c) {
      const int64_t at = c * block.row;
      const Full o = load<Full>(block.scores + at);
      const Full e = exponential(o - m), g = 1.0f / (1.0f + e * ratio);
      const Full d = constant - g * g * inverse + bpreg * (o * o + 2.0f * o);
      store(out + at, scale * e * d * (o > linear ? all(1.0f) : o + alpha));
    }
  }

  void correct(float* slope, Kept kept, const float* gradient, int64_t b) const {
    const float o = kept[5][b], mean = kept[2][b];
    const float of_elu = o > 0.0f || alpha == 0.0f ? 1.0f : o + alpha;
    *slope = gradient[b] * of_elu * (kept[4][b] - (mean - 1e-24f)) / mean;
  }
};

// o = tanh of the scores; the sums include the target's own term, and D = sum_j g_j (1 - g_j) with
// g_j = sigma(o_j - o_t) is the gradient of all terms but it in o_t.
struct Top1 {
  // State: a constant that keeps the sums as they are; sums of g, sigma(o^2), g (1 - g). Kept: D, o_t.
  static constexpr int STATE = 4, KEPT = 2;
  static constexpr bool TARGET_FIRST = true;
  float share;  // 1 / C

  static Full sigma(Full x) { return 1.0f / (1.0f + exponential(-x)); }
  Full activated(Full x) const { return 2.0f * sigma(2.0f * x) - 1.0f; }

  void add(const Block& block, Rows state, const float* own) const {
    const int64_t b = block.example;
    const Full o_t = load<Full>(own + b);
    Full sums[3] = {};
    for (int64_t c = 0; c < block.count; ++c) {
      const Full x = block.shifted(c), o = activated(x), g = sigma(o - o_t);
      store(block.scores + c * block.row, o);
      sums[0] += g + 0.0f * x;  // NaN where the score is infinite, which tanh would hide
      sums[1] += sigma(o * o), sums[2] += g - g * g;
    }
    for (int k = 0; k < 3; ++k) store(state[k + 1] + b, load<Full>(state[k + 1] + b) + sums[k]);
  }

  void finish(Rows state, Rows kept, const float* own, float* losses, int64_t b) const {
    const float square = 1.0f / (1.0f + std::exp(-own[b] * own[b]));
    losses[b] = share * (state[1][b] + state[2][b] - square);
    kept[0][b] = state[3][b] - 0.25f, kept[1][b] = own[b];
  }

  void slopes(const Block& block, Kept kept, const float* gradient, float* out) const {
    const int64_t b = block.example;
    const Full o_t = load<Full>(kept[1] + b), scale = share * load<Full>(gradient + b);
    for (int64_t c = 0; c < block.count; ++c) {
      const int64_t at = c * block.row;
      const Full o = load<Full>(block.scores + at), g = sigma(o - o_t), s = sigma(o * o);
      store(out + at, scale * (g - g * g + 2.0f * o * (s - s * s)) * (1.0f - o * o));
    }
  }

  void correct(float* slope, Kept kept, const float* gradient, int64_t b) const {
    const float o = kept[1][b];
    *slope = -share * gradient[b] * kept[0][b] * (1.0f - o * o);
  }
};
