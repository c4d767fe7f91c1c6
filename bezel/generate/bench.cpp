#include "bezel/generate/bench.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/generate/generator.h"
#include "bezel/io/tensor_io.h"
#include "bezel/nn/weight_site.h"

namespace bezel::generate {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::uint64_t sum(const std::uint64_t* words, std::int64_t count) {
  std::uint64_t sums[8] = {};  // apart, so that additions do not wait for one another
  for (std::int64_t i = 0; i + 8 <= count; i += 8)
    for (std::int64_t k = 0; k < 8; ++k) sums[k] += words[i + k];
  std::uint64_t all = 0;
  for (const std::uint64_t part : sums) all += part;
  return all;
}

// The best of several passes over a buffer that no cache holds.
double read_bandwidth() {
  constexpr std::int64_t kWords = std::int64_t{256} << 17;                                     // 256 MiB
  const torch::Tensor memory = io::in_large_pages(at::ones({1}, at::kLong).expand({kWords}));  // as weights are stored
  const auto* words = reinterpret_cast<const std::uint64_t*>(memory.const_data_ptr<std::int64_t>());
  double best_s = 1e30;
  std::atomic<std::uint64_t> total = 0;
  for (int pass = 0; pass < 6; ++pass) {
    const auto begin = Clock::now();
    at::parallel_for(0, kWords, kWords / at::get_num_threads() + 1,
                     [&](std::int64_t from, std::int64_t to) { total += sum(words + from, to - from); });
    best_s = std::min(best_s, seconds_since(begin));
  }
  TORCH_CHECK(total > 0, "summed nothing");  // and so the sums are computed
  return static_cast<double>(kWords) * sizeof(std::uint64_t) / best_s;
}

}  // namespace

std::int64_t weight_bytes_per_token(const gemma4::Model& model) {
  const gemma4::TextConfig& config = model->config().text;
  std::int64_t bytes = model->output_embedding()->bytes();
  for (const nn::WeightSite& site : nn::weight_sites(*model->model->language_model)) {
    if (site.role() == nn::MatrixRole::kExperts)
      bytes += site.weight()->bytes() / config.num_experts * config.top_k_experts;
    if (site.role() != nn::MatrixRole::kLinear) continue;
    bytes += site.weight()->bytes();
    if (const auto& adapter = site.layer->adapter)
      for (const torch::Tensor& tensor : adapter->tensors()) bytes += static_cast<std::int64_t>(tensor.nbytes());
  }
  return bytes;
}

DecodeTimes bench_decoding(const gemma4::Model& model, const input::Batch& prompt, std::int64_t count) {
  TORCH_CHECK(count > 0, "decodes a token at least, not ", count);
  DecodeTimes times;
  times.prompt_tokens = prompt.input_ids.size(1);
  Generator generator(model);
  auto begin = Clock::now();
  torch::Tensor logits = generator.prefill(prompt);
  times.prefill_s = seconds_since(begin);
  for (std::int64_t i = 0; i < count; ++i) {
    begin = Clock::now();
    logits = generator.decode(logits.argmax().item<std::int64_t>());
    times.token_s.push_back(seconds_since(begin));
  }
  std::vector<double> sorted(times.token_s.begin() + (count > 1 ? 1 : 0), times.token_s.end());
  std::ranges::sort(sorted);
  times.median_s = sorted[sorted.size() / 2];
  times.bytes_per_token = weight_bytes_per_token(model);
  times.memory_bytes_per_s = read_bandwidth();
  return times;
}

}  // namespace bezel::generate
