// Optimizer steps on rows of tables and whole parameters in one pass, where PyTorch needs several.

#include <cmath>
#include <cstdint>
#include <vector>

#include <omp.h>

#include "denormals.h"
#include "tiles.h"

namespace {

constexpr int64_t OWNERS = 256;  // of rows: the largest number of threads
constexpr int64_t AHEAD = 8;  // rows to prefetch

void ask_for(const float* row, int64_t width) {
  for (int64_t d = 0; d < width; d += LINE) __builtin_prefetch(row + d, 1);
}

// The numbers of a rule: Adagrad takes `momentum`, Adam the others (see its move).
struct Numbers {
  float lr, momentum, eps, mean_rate, square_rate, correction, decay, shrink;
};

struct Adagrad {
  float *weight, *acc, *velocity;  // velocity is null where there is no momentum
  Numbers with;

  void move(int64_t from, const float* g, int64_t width) const {
    for (int64_t d = 0; d < width; d += FULL) {
      const int64_t at = from + d, n = width - d;
      const Full gradient = some(g + d, n), square = some(acc + at, n) + gradient * gradient;
      keep(acc + at, square, n);
      Full change = -with.lr * gradient * inverse_root(square + with.eps);
      if (velocity) {
        change += with.momentum * some(velocity + at, n);
        keep(velocity + at, change, n);
      }
      keep(weight + at, some(weight + at, n) + change, n);
    }
  }

  void move_one(int64_t at, float g) const {
    acc[at] += g * g;
    float change = -with.lr * (g / std::sqrt(acc[at] + with.eps));
    if (velocity) change = velocity[at] = with.momentum * velocity[at] + change;
    weight[at] += change;
  }
};

// lr is divided by 1 - beta1^t, and correction is 1 / (1 - beta2^t); the rates are 1 - beta, which
// float would round off; decay is added to the gradient, and the weight is first shrunk.
struct Adam {
  float *weight, *mean, *square;
  Numbers with;

  template <typename V>
  V moved(V w, V g, V& m, V& s) const {
    w *= with.shrink;
    g += with.decay * w;
    m += with.mean_rate * (g - m);
    s += with.square_rate * (g * g - s);
    return w - with.lr * m / (root(s * with.correction) + with.eps);
  }

  void move(int64_t from, const float* g, int64_t width) const {
    for (int64_t d = 0; d < width; d += FULL) {
      const int64_t at = from + d, n = width - d;
      Full m = some(mean + at, n), s = some(square + at, n);
      keep(weight + at, moved(some(weight + at, n), some(g + d, n), m, s), n);
      keep(mean + at, m, n);
      keep(square + at, s, n);
    }
  }

  void move_one(int64_t at, float g) const {
    weight[at] = moved(weight[at], g, mean[at], square[at]);
  }
};

// A read of a row; its gradient is `scale` times the floats at `gradient`.
struct Read {
  const float* gradient;
  float scale;
  int64_t row;
};

}  // namespace

// Reads of a table, and the gradients [count, width] of their results. Read j is row items[j], or
// with `offsets` the sum of weights[t] times row tokens[t] over the bag items[j].
struct Reads {
  const int64_t* items;
  const float* gradient;
  const int64_t *offsets, *tokens;
  const float* weights;
  int64_t count;

  // Calls act(row, gradient, scale) for each row that was read, in order.
  template <typename Act>
  void each(int64_t width, const Act& act) const {
    for (int64_t j = 0; j < count; ++j) {
      const float* g = gradient + j * width;
      if (!offsets) {
        act(items[j], g, 1.0f);
        continue;
      }
      for (int64_t t = offsets[items[j]]; t < offsets[items[j] + 1]; ++t)
        act(tokens[t], g, weights[t]);
    }
  }

  int64_t size() const {
    if (!offsets) return count;
    int64_t total = 0;
    for (int64_t j = 0; j < count; ++j) total += offsets[items[j] + 1] - offsets[items[j]];
    return total;
  }
};

namespace {

// The reads of the rows that one thread of a team owns, grouped by row.
struct Plan {
  std::vector<int64_t> rows, starts;  // one more start than rows
  std::vector<Read> own, reads;       // in order of reading; grouped by row

  // `slots`: working memory, one number per row of the table, all -1 before and afterwards.
  void make(const Reads* parts, int64_t count, int64_t width, int32_t* slots, int64_t me,
            int64_t team) {
    int64_t mine[OWNERS];  // by cache line of `slots`, which threads must not share
    for (int64_t k = 0; k < OWNERS; ++k) mine[k] = k % team == me;
    int64_t most = 1, n = 0;
    for (int64_t k = 0; k < count; ++k) most += parts[k].size();
    own.resize(most);
    for (int64_t k = 0; k < count; ++k)
      parts[k].each(width, [&](int64_t row, const float* gradient, float scale) {
        own[n] = {gradient, scale, row};  // overwritten by the next one unless mine
        n += mine[row / LINE % OWNERS];
      });
    rows.clear(), starts.clear();
    for (int64_t j = 0; j < n; ++j) {
      const int64_t row = own[j].row;
      if (slots[row] < 0) {
        slots[row] = static_cast<int32_t>(rows.size());
        rows.push_back(row);
        starts.push_back(0);
      }
      ++starts[slots[row]];
    }
    int64_t end = 0;
    for (int64_t& start : starts) start = end += start;
    starts.push_back(end);
    reads.resize(end);
    // Starts hold the ends of the groups: filling groups backwards turns them into the starts.
    for (int64_t j = n; j-- > 0;) reads[--starts[slots[own[j].row]]] = own[j];
    for (int64_t row : rows) slots[row] = -1;
  }
};

}  // namespace

// A table [., width] with its optimizer state (`second` may be null), whose rows were read as
// `parts` describe; `slots`: see Plan.
struct MovedRows {
  float *weight, *first, *second;
  const Reads* parts;
  int32_t* slots;
  int64_t num_parts, width;
  Numbers with;
};

// A whole parameter, its optimizer state (`second` may be null) and its gradient.
struct Parameter {
  float *weight, *first, *second;
  const float* gradient;
  int64_t size;
};

struct MovedWhole {
  const Parameter* parameters;
  int64_t count;
  Numbers with;
};

namespace {

// On the rows that were read: the gradients of a row are summed, then the row and its optimizer
// state are updated.
template <typename Rule>
void move_rows(const MovedRows& given) {
  float *const weight = given.weight, *const first = given.first, *const second = given.second;
  const int64_t width = given.width;
  const Rule rule{weight, first, second, given.with};
  static thread_local Plan plan;  // reuses its memory
  plan.make(given.parts, given.num_parts, width, given.slots, omp_get_thread_num(),
            omp_get_num_threads());
  const int64_t count = plan.rows.size();
  std::vector<float> sum(width);
  for (int64_t u = 0; u < count; ++u) {
    const int64_t row = plan.rows[u];
    if (u + AHEAD < count) {
      const int64_t next = plan.rows[u + AHEAD] * width;
      ask_for(weight + next, width);
      ask_for(first + next, width);
      if (second) ask_for(second + next, width);
    }
    const int64_t end = plan.starts[u + 1];
    int64_t j = plan.starts[u];
    const float* g = plan.reads[j].gradient;
    if (end - j > 1 || plan.reads[j].scale != 1.0f) {
      for (int64_t d = 0; d < width; ++d) sum[d] = 0.0f;
      for (; j < end; ++j) {
        const float* read = plan.reads[j].gradient;
        const float scale = plan.reads[j].scale;
        for (int64_t d = 0; d < width; ++d) sum[d] += scale * read[d];
      }
      g = sum.data();
    }
    width == 1 ? rule.move_one(row, *g) : rule.move(row * width, g, width);
  }
#pragma omp barrier
}

template <typename Rule>
void move_whole(const MovedWhole& given) {
  const Parameter* const parameters = given.parameters;
  const int64_t count = given.count;
  const Numbers with = given.with;
  constexpr int64_t PIECE = 4096;
  int64_t pieces = 0;
  for (int64_t k = 0; k < count; ++k) pieces += (parameters[k].size + PIECE - 1) / PIECE;
  {
#pragma omp for schedule(static)
    for (int64_t piece = 0; piece < pieces; ++piece) {
      int64_t k = 0, at = piece;
      for (int64_t own; at >= (own = (parameters[k].size + PIECE - 1) / PIECE); ++k) at -= own;
      const Parameter& p = parameters[k];
      const int64_t from = at * PIECE, n = p.size - from < PIECE ? p.size - from : PIECE;
      const Rule rule{p.weight, p.first, p.second, with};
      rule.move(from, p.gradient + from, n);
    }
  }
}

}  // namespace

extern "C" void adagrad_rows(const MovedRows* given) { move_rows<Adagrad>(*given); }
extern "C" void adagrad_whole(const MovedWhole* given) { move_whole<Adagrad>(*given); }
extern "C" void adam_rows(const MovedRows* given) { move_rows<Adam>(*given); }
extern "C" void adam_whole(const MovedWhole* given) { move_whole<Adam>(*given); }

extern "C" int64_t size_of_reads() { return sizeof(Reads); }
extern "C" int64_t size_of_parameter() { return sizeof(Parameter); }
extern "C" int64_t size_of_moved_rows() { return sizeof(MovedRows); }
extern "C" int64_t size_of_moved_whole() { return sizeof(MovedWhole); }
