// The scores of a step: their inputs, and vectors of scores.
#pragma once

#include <cfloat>
#include <cstdint>
#include <cstring>

#include <omp.h>

#include "tiles.h"

constexpr int64_t CHUNK = 48;  // candidates at a time: a multiple of ROUND
constexpr int64_t DEPTH = 64;  // examples at a time when gradients of rows are summed

// The scores of a step are sum_p queries_p [B, D_p] . rows of tables_p + offset. They are stored
// with a row per candidate (C) and a column per example (B); rows are `row()` floats apart.
struct Step {
  const float* const* queries;
  const float* const* tables;
  const int64_t* widths;  // D_p
  const int64_t* items;   // [C] rows of the tables, or null: the first C
  const float* offset;    // [C], or null
  const int64_t* target;  // [B], index of the target among the candidates
  float* scores;          // [up(C, CHUNK), row]
  int32_t* targets;       // [lanes]: `target`, -1 for padding
  int64_t terms, examples, candidates;

  int64_t row() const { return stride(examples); }
  int64_t lanes() const { return up(examples, FULL); }
  int64_t item(int64_t c) const { return items ? items[c] : c; }
  int64_t size(int64_t from) const {
    return candidates - from < CHUNK ? candidates - from : CHUNK;
  }
  // The sum of the strides of the terms before `term`: the start of its part of a shared buffer.
  int64_t before(int64_t term) const {
    int64_t total = 0;
    for (int64_t p = 0; p < term; ++p) total += stride(widths[p]);
    return total;
  }

  void find_targets() const {
    for (int64_t b = 0; b < lanes(); ++b)
      targets[b] = b < examples ? static_cast<int32_t>(target[b]) : -1;
  }

  // Copies the rows of candidates [from, from + n) from one table; prefetches the next chunk.
  void gather(int64_t term, int64_t from, int64_t n, float* into) const {
    const int64_t width = widths[term], next = from + CHUNK;
    const float* table = tables[term];
    for (int64_t c = 0; c < n; ++c) {
      std::memcpy(into + c * stride(width), table + item(from + c) * width, 4 * width);
      if (next + c >= candidates) continue;
      const float* ahead = table + item(next + c) * width;
      for (int64_t d = 0; d < width; d += LINE) __builtin_prefetch(ahead + d);
    }
  }

  float score_of_target(int64_t b) const {
    float total = 0.0f;
    for (int64_t p = 0; p < terms; ++p) {
      const float* q = queries[p] + b * widths[p];
      const float* row = tables[p] + item(target[b]) * widths[p];
      float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < widths[p]; ++d) sum += q[d] * row[d];
      total += sum;
    }
    return offset ? total + offset[target[b]] : total;
  }
};

// Rows of `row` floats, a value per example: what a loss accumulates over the candidates (state),
// and what it keeps for the backward pass (kept).
template <typename Number>
struct Values {
  Number* at;
  int64_t row;
  Number* operator[](int64_t k) const { return at + k * row; }
};
using Rows = Values<float>;
using Kept = Values<const float>;
constexpr float LOWEST = -FLT_MAX;  // initial highest score; finite, because inf - inf is NaN

// A vector of examples over a chunk of candidates.
struct Block {
  float* scores;  // of the first candidate
  const float* offset;  // of the first candidate, or null
  int64_t row, first, count, example;
  Whole target;
  bool has_target;  // whether a target of these examples is among the candidates

  Full shifted(int64_t c) const {
    const Full x = load<Full>(scores + c * row);
    return offset ? x + offset[c] : x;
  }

  Whole is_target(int64_t c) const { return target == static_cast<int32_t>(first + c) - Whole{}; }
};
