// The gates of a GRU, forward and backward: with reset=after in one pass each, with reset=before in
// two, between which there is a product. Variables are named as in p_rnn/models/cells/gru.py.

#include <cstdint>
#include <cstring>

#include <omp.h>

#include "denormals.h"
#include "tiles.h"

namespace {

// The start of the vector that contains element `from` of H: the last one is moved back to end at
// H, and recomputes some elements.
inline int64_t start(int64_t from, int64_t H) {
  return from + FULL <= H || H < FULL ? from : H - FULL;
}

inline Full sigma(Full x) { return 1.0f / (1.0f + exponential(-x)); }
inline Full tangent(Full x) { return 2.0f * sigma(2.0f * x) - 1.0f; }

}  // namespace

// Inputs and outputs of a step of B sessions and H units; `mask` may be null. With reset=before,
// u = [h U_r, h U_z, (r h) U_n], acted = r h, of_u [B, H] is its gradient, and there is no d.
struct Gates {
  const float *a, *u, *c, *d;  // [B, 3H]: gate inputs, h U; [3H]: biases of h U and of a
  const float *h, *mask;       // [B, H]
  float *r, *z, *n, *acted;    // [B, H]; acted = U_n h + c_n
  float* output;               // [B, H]
  const float* gradient;       // [B, H], of the masked output
  float *of_a, *of_u;          // [B, 3H]: gradients of a, and of U h + c
  float *sum_a, *sum_u;        // [3H]: their sums over the sessions
  int64_t batch, size;

  // Calls `act` with the places of each vector of units in [B, H], in the first third of [B, 3H] and
  // in [H], and with how many numbers it has.
  template <typename Act>
  void vectors(const Act& act) const {
#pragma omp for schedule(static)
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t j = 0; j < size; j += FULL) act(b * size + j, 3 * b * size + j, j, size - j);
  }
};

extern "C" int64_t size_of_gates() { return sizeof(Gates); }

extern "C" void gates_forward(const Gates* gates) {
  const Gates& g = *gates;
  const int64_t H = g.size;
#pragma omp for schedule(static)
  for (int64_t b = 0; b < g.batch; ++b) {
    const float *a = g.a + 3 * b * H, *u = g.u + 3 * b * H;
    for (int64_t from = 0; from < H; from += FULL) {
      const int64_t j = start(from, H), at = b * H + j, m = H - j;
      const auto sum = [&](int64_t k) {
        return some(a + k + j, m) + some(g.d + k + j, m) + some(u + k + j, m) +
               some(g.c + k + j, m);
      };
      const Full r = sigma(sum(0)), z = sigma(sum(H));
      const Full acted = some(u + 2 * H + j, m) + some(g.c + 2 * H + j, m);
      const Full n = tangent(some(a + 2 * H + j, m) + some(g.d + 2 * H + j, m) + r * acted);
      Full h = n + z * (some(g.h + at, m) - n);
      if (g.mask) h *= some(g.mask + at, m);
      keep(g.r + at, r, m), keep(g.z + at, z, m), keep(g.n + at, n, m);
      keep(g.acted + at, acted, m), keep(g.output + at, h, m);
    }
  }
}

extern "C" void gates_backward(const Gates* gates) {
  const Gates& g = *gates;
  const int64_t H = g.size, team = omp_get_num_threads(), line = stride(4 * H);
  const Shared sums(team * line);
  float* const own = sums + omp_get_thread_num() * line;  // sums of dr, dz, dn and r dn
  std::memset(own, 0, 4 * line);
#pragma omp for schedule(static)
  for (int64_t b = 0; b < g.batch; ++b) {
    for (int64_t j = 0; j < H; j += FULL) {
      const int64_t at = b * H + j, wide = 3 * b * H + j, m = H - j;
      Full dh = some(g.gradient + at, m);
      if (g.mask) dh *= some(g.mask + at, m);
      const Full r = some(g.r + at, m), z = some(g.z + at, m), n = some(g.n + at, m);
      const Full dn = dh * (1.0f - z) * (1.0f - n * n);
      const Full dz = dh * (some(g.h + at, m) - n) * (z - z * z);
      const Full dr = dn * some(g.acted + at, m) * (r - r * r), of_acted = dn * r;
      const auto put = [&](float* to, int64_t k, Full v) { keep(to + wide + k * H, v, m); };
      put(g.of_a, 0, dr), put(g.of_a, 1, dz), put(g.of_a, 2, dn);
      put(g.of_u, 0, dr), put(g.of_u, 1, dz), put(g.of_u, 2, of_acted);
      const auto add = [&](int64_t k, Full v) {
        keep(own + k * H + j, some(own + k * H + j, m) + v, m);
      };
      add(0, dr), add(1, dz), add(2, dn), add(3, of_acted);
    }
  }
#pragma omp for schedule(static)
  for (int64_t j = 0; j < 4 * H; ++j) {
    float sum = 0.0f;
    for (int64_t t = 0; t < team; ++t) sum += sums[t * line + j];
    if (j < 3 * H) g.sum_a[j] = sum;
    if (j < 2 * H) g.sum_u[j] = sum;
    if (j >= 3 * H) g.sum_u[j - H] = sum;
  }
}

extern "C" void before_gates(const Gates* gates) {
  const Gates& g = *gates;
  const int64_t H = g.size;
  g.vectors([&](int64_t at, int64_t wide, int64_t j, int64_t m) {
    const auto sum = [&](int64_t k) {
      return some(g.a + wide + k, m) + some(g.u + wide + k, m) + some(g.c + j + k, m);
    };
    const Full r = sigma(sum(0));
    keep(g.r + at, r, m), keep(g.z + at, sigma(sum(H)), m);
    keep(g.acted + at, r * some(g.h + at, m), m);
  });
}

extern "C" void before_output(const Gates* gates) {
  const Gates& g = *gates;
  const int64_t H = g.size;
  g.vectors([&](int64_t at, int64_t wide, int64_t j, int64_t m) {
    const Full n = tangent(some(g.a + wide + 2 * H, m) + some(g.u + wide + 2 * H, m) +
                           some(g.c + j + 2 * H, m));
    Full h = n + some(g.z + at, m) * (some(g.h + at, m) - n);
    if (g.mask) h *= some(g.mask + at, m);
    keep(g.n + at, n, m), keep(g.output + at, h, m);
  });
}

extern "C" void before_output_backward(const Gates* gates) {
  const Gates& g = *gates;
  const int64_t H = g.size;
  g.vectors([&](int64_t at, int64_t wide, int64_t, int64_t m) {
    Full dh = some(g.gradient + at, m);
    if (g.mask) dh *= some(g.mask + at, m);
    const Full z = some(g.z + at, m), n = some(g.n + at, m);
    keep(g.of_a + wide + H, dh * (some(g.h + at, m) - n) * (z - z * z), m);
    keep(g.of_a + wide + 2 * H, dh * (1.0f - z) * (1.0f - n * n), m);
  });
}

extern "C" void before_gates_backward(const Gates* gates) {
  const Gates& g = *gates;
  g.vectors([&](int64_t at, int64_t wide, int64_t, int64_t m) {
    const Full r = some(g.r + at, m);
    keep(g.of_a + wide, some(g.of_u + at, m) * some(g.h + at, m) * (r - r * r), m);
  });
#pragma omp for schedule(static)
  for (int64_t j = 0; j < 3 * g.size; j += LINE) {
    const int64_t end = j + LINE < 3 * g.size ? j + LINE : 3 * g.size;
    for (int64_t k = j; k < end; ++k) g.sum_a[k] = 0.0f;
    for (int64_t b = 0; b < g.batch; ++b)
      for (int64_t k = j; k < end; ++k) g.sum_a[k] += g.of_a[3 * b * g.size + k];
  }
}
