// Each vectorized loop beside its form in ATen's operators, at the sizes of a training step of E2B: the ratio of two
// rows of one name is what the loop gains. Items are elements.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include "bezel/kernels/bidirectional_attention.h"
#include "bezel/kernels/cross_entropy.h"
#include "bezel/kernels/dequantize.h"
#include "bezel/kernels/geglu.h"
#include "bezel/kernels/gemv.h"
#include "bezel/kernels/low_rank.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/quantize.h"
#include "bezel/kernels/ranged_attention.h"
#include "bezel/kernels/rms_norm.h"
#include "bezel/kernels/rope.h"
#include "bezel/kernels/silu.h"
#include "bezel/kernels/simd/tile_units.h"
#include "bezel/kernels/skinny_gemm.h"

namespace {

using namespace bezel::kernels;  // a program's main file
using torch::Tensor;

Tensor random(std::vector<std::int64_t> shape) { return at::randn(shape).to(at::kBFloat16); }

void rms_norm_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({512, 1536}), weight = at::ones({1536}), residual = random({512, 1536});
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? rms_norm(x, weight, residual, 1e-6) : rms_norm_plain(x, weight, residual, 1e-6));
  state.SetItemsProcessed(state.iterations() * x.numel());
}

void rms_norm_backward_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({512, 1536}), dy = random({512, 1536}), weight = at::ones({1536});
  const Tensor inverse = rms_norm(x, weight, {}, 1e-6).inverse;
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? rms_norm_backward(x, weight, inverse, dy)
                                   : rms_norm_backward_plain(x, weight, inverse, dy));
  state.SetItemsProcessed(state.iterations() * x.numel());
}

void geglu_bench(benchmark::State& state, bool fused) {
  const Tensor gate = random({512, 6144}), up = random({512, 6144});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? geglu(gate, up) : geglu_plain(gate, up));
  state.SetItemsProcessed(state.iterations() * gate.numel());
}

void geglu_backward_bench(benchmark::State& state, bool fused) {
  const Tensor gate = random({512, 6144}), up = random({512, 6144}), dy = random({512, 6144});
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? geglu_backward(gate, up, dy) : geglu_backward_plain(gate, up, dy));
  state.SetItemsProcessed(state.iterations() * gate.numel());
}

// The wide activations of the audio tower.
void silu_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({250, 4096});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? bezel::kernels::silu(x) : at::silu(x));
  state.SetItemsProcessed(state.iterations() * x.numel());
}

void silu_backward_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({250, 4096}), dy = random({250, 4096});
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? bezel::kernels::silu_backward(x, dy) : at::silu_backward(dy, x));
  state.SetItemsProcessed(state.iterations() * x.numel());
}

void rope_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({512, 8, 256}), cos = random({512, 1, 256}), sin = random({512, 1, 256});
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? apply_rope(x, cos, sin, false) : apply_rope_plain(x, cos, sin, false));
  state.SetItemsProcessed(state.iterations() * x.numel());
}

void clamp_bench(benchmark::State& state, bool fused) {
  Tensor y = random({2304, 3072});
  const LowRank term{at::randn({2304, 16}) * 1e-3, at::randn({16, 3072})};
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? clamp_low_rank(y, term, {-6, 6}, true)
                                   : clamp_low_rank_plain(y, term, {-6, 6}, true));
  state.SetItemsProcessed(state.iterations() * y.numel());
}

void gate_bench(benchmark::State& state, bool fused) {
  Tensor dx = random({2304, 768});
  const Tensor gate = random({2304, 768});
  const LowRank term{at::randn({2304, 16}) * 1e-3, at::randn({16, 768})};
  for (auto _ : state) fused ? gate_low_rank(dx, term, gate, {-6, 6}) : gate_low_rank_plain(dx, term, gate, {-6, 6});
  state.SetItemsProcessed(state.iterations() * dx.numel());
}

void where_inside_bench(benchmark::State& state, bool fused) {
  Tensor y = random({2304, 3072});
  const Tensor dy = random({2304, 3072});
  const Tensor inside = fused ? clamp_low_rank(y, {}, {-1, 1}, true) : clamp_low_rank_plain(y, {}, {-1, 1}, true);
  for (auto _ : state) benchmark::DoNotOptimize(where_inside(dy, inside));
  state.SetItemsProcessed(state.iterations() * dy.numel());
}

Tensor attended_plain(const Tensor& q, const Tensor& k, const Tensor& v, bool causal) {  // each [A, T, D]
  return at::scaled_dot_product_attention(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), {}, 0.0, causal, 1.0);
}

// An image of 2,304 patches; items are pairs of a query and a key.
void bidirectional_attention_bench(benchmark::State& state, bool fused) {
  const Tensor q = random({2304, 12, 64}), k = random({2304, 12, 64}), v = random({2304, 12, 64});
  const auto heads = [](const Tensor& x) { return x.transpose(0, 1); };
  for (auto _ : state) {
    if (fused)
      benchmark::DoNotOptimize(bidirectional_attention(q, k, v));
    else
      benchmark::DoNotOptimize(attended_plain(heads(q), heads(k), heads(v), false));
  }
  state.SetItemsProcessed(state.iterations() * 12 * 2304 * 2304);
}

void bidirectional_attention_backward_bench(benchmark::State& state, bool fused) {
  const Tensor q = random({2304, 12, 64}), k = random({2304, 12, 64}), v = random({2304, 12, 64});
  const Tensor d_out = random({2304, 12, 64});
  const Attended attended = bidirectional_attention(q, k, v);
  const auto leaf = [](const Tensor& x) { return x.transpose(0, 1).detach().requires_grad_(true); };
  const Tensor plain = attended_plain(leaf(q), leaf(k), leaf(v), false);
  for (auto _ : state) {
    if (fused)
      benchmark::DoNotOptimize(bidirectional_attention_backward(q, k, v, attended, d_out));
    else
      plain.backward(d_out.transpose(0, 1).unsqueeze(0), /*retain_graph=*/true);
  }
  state.SetItemsProcessed(state.iterations() * 12 * 2304 * 2304);
}

// Eight query heads over one head of keys, 2,048 tokens in a window of 512: what ATen does with T x T pairs. Items are
// pairs that are seen.
RangedAttention sliding_window(std::int64_t tokens) {
  const Tensor place = at::arange(tokens, at::kLong).view({1, 1, tokens});
  return {random({1, tokens * 8, 256}), random({1, tokens, 256}), random({1, tokens, 256}), (place - 511).clamp_min(0),
          place + 1};
}

void ranged_attention_bench(benchmark::State& state, bool fused) {
  const RangedAttention a = sliding_window(2048);
  const Tensor q = a.q.view({2048, 8, 256}).transpose(0, 1);
  for (auto _ : state) {
    if (fused)
      benchmark::DoNotOptimize(ranged_attention(a));
    else
      benchmark::DoNotOptimize(attended_plain(q, a.k.expand({8, 2048, 256}), a.v.expand({8, 2048, 256}), true));
  }
  state.SetItemsProcessed(state.iterations() * 8 * (2048 * 512 - 511 * 256));
}

void ranged_attention_backward_bench(benchmark::State& state, bool fused) {
  const RangedAttention a = sliding_window(2048);
  const Attended attended = ranged_attention(a);
  const Tensor d_out = random({1, 2048 * 8, 256});
  const auto leaf = [](const Tensor& x) { return x.detach().requires_grad_(true); };
  const Tensor q = leaf(a.q.view({2048, 8, 256}).transpose(0, 1)), k = leaf(a.k), v = leaf(a.v);
  const Tensor plain = attended_plain(q, k.expand({8, 2048, 256}), v.expand({8, 2048, 256}), true);
  for (auto _ : state) {
    if (fused)
      benchmark::DoNotOptimize(ranged_attention_backward(a, attended, d_out));
    else
      plain.backward(d_out.view({2048, 8, 256}).transpose(0, 1).unsqueeze(0), /*retain_graph=*/true);
  }
  state.SetItemsProcessed(state.iterations() * 8 * (2048 * 512 - 511 * 256));
}

void cross_entropy_bench(benchmark::State& state, bool fused) {
  const Tensor start = random({64, 262144}), labels = at::randint(0, 262144, {64});
  Tensor logits = start.clone();
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? cross_entropy(logits, labels, 30.0, true)
                                   : cross_entropy_plain(logits, labels, 30.0, true));
  state.SetItemsProcessed(state.iterations() * logits.numel());
}

void dequantize_bench(benchmark::State& state, bool fused) {
  const std::int64_t count = 1536 * 2048;
  const Tensor packed = at::randint(0, 256, {count / 2}, at::kByte), scales = at::rand({count / 64});
  const FourBitFormat format{at::linspace(-1, 1, 16), 64, at::kBFloat16};
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? dequantize_4bit(packed, scales, 0, count, format, at::kBFloat16)
                                   : dequantize_4bit_plain(packed, scales, 0, count, format, at::kBFloat16));
  state.SetItemsProcessed(state.iterations() * count);
}

void quantize_bench(benchmark::State& state, bool fused) {
  const Tensor x = at::randn({1 << 20}), bounds = at::linspace(-0.9, 0.9, 15), order = at::arange(16, at::kByte);
  for (auto _ : state)
    benchmark::DoNotOptimize(fused ? quantize_4bit(x, 64, bounds, order) : quantize_4bit_plain(x, 64, bounds, order));
  state.SetItemsProcessed(state.iterations() * x.numel());
}

// The head's product of one token; items are elements of the matrix.
void gemv_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({1, 1536}), w = random({262144 / 2, 1536});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? gemv(x, w) : at::mm(x, w.t()));
  state.SetItemsProcessed(state.iterations() * w.numel());
}

void gemv_4bit_bench(benchmark::State& state, bool fused) {
  const std::int64_t rows = 12288, columns = 1536, count = rows * columns;
  const Tensor packed = at::randint(0, 256, {count / 2}, at::kByte), scales = at::rand({count / 64});
  const FourBitFormat format{at::linspace(-1, 1, 16), 64, at::kBFloat16};
  const Tensor x = random({1, columns});
  for (auto _ : state) {
    if (fused)
      benchmark::DoNotOptimize(gemv_4bit(x, packed, scales, 0, rows, format));
    else
      benchmark::DoNotOptimize(
          at::mm(x, dequantize_4bit_plain(packed, scales, 0, count, format, at::kBFloat16).view({rows, columns}).t()));
  }
  state.SetItemsProcessed(state.iterations() * count);
}

// A product of 512 rows with a quantized matrix, made window by window or as a whole.
void tiled_gemm_4bit_bench(benchmark::State& state, bool fused) {
  const std::int64_t rows = 6144, columns = 1536, count = rows * columns;
  const Tensor packed = at::randint(0, 256, {count / 2}, at::kByte), scales = at::rand({count / 64});
  const FourBitFormat format{at::linspace(-1, 1, 16), 64, at::kBFloat16};
  const MakeWindow windows = windows_4bit(packed, scales, 0, columns, format);
  const Tensor x = random({512, columns});
  for (auto _ : state) {
    if (fused)
      benchmark::DoNotOptimize(tiled_gemm_nt(x, rows, windows));
    else
      benchmark::DoNotOptimize(
          at::mm(x, dequantize_4bit(packed, scales, 0, count, format, at::kBFloat16).view({rows, columns}).t()));
  }
  state.SetItemsProcessed(state.iterations() * count);
}

// The products of an adapter of rank 16 on a projection from 1,536 to 6,144 features; items are multiply-additions.
void skinny_gemm_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({512, 1536}), a = at::randn({16, 1536});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? skinny_gemm(x, a.t()) : at::mm(x, a.to(at::kBFloat16).t()));
  state.SetItemsProcessed(state.iterations() * x.numel() * 16);
}

void skinny_gemm_nn_bench(benchmark::State& state, bool fused) {
  const Tensor dy = random({512, 6144}), b = at::randn({6144, 16});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? skinny_gemm(dy, b) : at::mm(dy, b.to(at::kBFloat16)));
  state.SetItemsProcessed(state.iterations() * dy.numel() * 16);
}

void skinny_gemm_tn_bench(benchmark::State& state, bool fused) {
  const Tensor dy = random({512, 6144}), h = random({512, 16});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? skinny_gemm_tn(dy, h) : at::mm(dy.t(), h).to(at::kFloat));
  state.SetItemsProcessed(state.iterations() * dy.numel() * 16);
}

// A dense product of 512 rows by tile units, ours or those of LibTorch; items are multiply-additions.
void tile_matmul_nt_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({512, 1536}), w = random({6144, 1536});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? matmul_nt(x, w) : at::mm(x, w.t()));
  state.SetItemsProcessed(state.iterations() * x.numel() * 6144);
}

void tile_matmul_nn_bench(benchmark::State& state, bool fused) {
  const Tensor dy = random({512, 6144}), w = random({6144, 1536});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? matmul_nn(dy, w) : at::mm(dy, w));
  state.SetItemsProcessed(state.iterations() * dy.numel() * 1536);
}

using Bench = void (*)(benchmark::State&, bool);

void add_rows(const char* name, Bench bench) {
  for (const bool fused : {false, true})
    benchmark::RegisterBenchmark((std::string(name) + (fused ? "/loop" : "/aten")).c_str(), bench, fused)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, Bench> all[] = {
      {"rms_norm", rms_norm_bench},
      {"rms_norm_backward", rms_norm_backward_bench},
      {"geglu", geglu_bench},
      {"geglu_backward", geglu_backward_bench},
      {"silu", silu_bench},
      {"silu_backward", silu_backward_bench},
      {"rope", rope_bench},
      {"clamp_low_rank", clamp_bench},
      {"gate_low_rank", gate_bench},
      {"where_inside", where_inside_bench},
      {"skinny_gemm_nt", skinny_gemm_bench},
      {"skinny_gemm_nn", skinny_gemm_nn_bench},
      {"skinny_gemm_tn", skinny_gemm_tn_bench},
      {"bidirectional_attention", bidirectional_attention_bench},
      {"bidirectional_attention_backward", bidirectional_attention_backward_bench},
      {"ranged_attention", ranged_attention_bench},
      {"ranged_attention_backward", ranged_attention_backward_bench},
      {"cross_entropy", cross_entropy_bench},
      {"dequantize_4bit", dequantize_bench},
      {"quantize_4bit", quantize_bench},
      {"gemv", gemv_bench},
      {"gemv_4bit", gemv_4bit_bench},
      {"tiled_gemm_4bit", tiled_gemm_4bit_bench}};
  for (const auto& [name, bench] : all) add_rows(name, bench);
  if (simd::tile_products() != nullptr) {
    add_rows("tile_matmul_nt", tile_matmul_nt_bench);
    add_rows("tile_matmul_nn", tile_matmul_nn_bench);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
