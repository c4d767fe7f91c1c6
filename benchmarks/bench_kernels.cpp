// Each vectorised loop beside its form in ATen's operators, at the sizes of a training step of E2B: the ratio of two
// rows of one name is what the loop gains. Items are elements.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include "bezel/kernels/cross_entropy.h"
#include "bezel/kernels/dequantize.h"
#include "bezel/kernels/geglu.h"
#include "bezel/kernels/low_rank.h"
#include "bezel/kernels/rms_norm.h"
#include "bezel/kernels/rotate.h"

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

void rotate_bench(benchmark::State& state, bool fused) {
  const Tensor x = random({512, 8, 256}), cos = random({512, 1, 256}), sin = random({512, 1, 256});
  for (auto _ : state) benchmark::DoNotOptimize(fused ? rotate(x, cos, sin, false) : rotate_plain(x, cos, sin, false));
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

using Bench = void (*)(benchmark::State&, bool);

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, Bench> all[] = {{"rms_norm", rms_norm_bench},
                                               {"rms_norm_backward", rms_norm_backward_bench},
                                               {"geglu", geglu_bench},
                                               {"geglu_backward", geglu_backward_bench},
                                               {"rotate", rotate_bench},
                                               {"clamp_low_rank", clamp_bench},
                                               {"cross_entropy", cross_entropy_bench},
                                               {"dequantize_4bit", dequantize_bench}};
  for (const auto& [name, bench] : all)
    for (const bool fused : {false, true})
      benchmark::RegisterBenchmark((std::string(name) + (fused ? "/loop" : "/aten")).c_str(), bench, fused)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
