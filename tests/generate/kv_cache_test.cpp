#include "bezel/generate/kv_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace bezel::generate {
namespace {

using gemma4::KvStates;
using torch::Tensor;

// Layer 0 slides over 5 tokens, layer 1 keeps all.
gemma4::TextConfig two_layers() {
  gemma4::TextConfig config;
  config.num_layers = 2;
  config.sliding_window = 5;
  config.layers.resize(2);
  config.layers[1].type = gemma4::LayerType::kFull;
  return config;
}

// Tokens `begin` to `end`, each of whose keys and values holds its own number, and minus it.
KvStates tokens(std::int64_t begin, std::int64_t end) {
  const Tensor key = at::arange(begin, end, at::kFloat).view({1, 1, -1, 1}).expand({1, 2, end - begin, 3}).contiguous();
  return {key, -key};
}

std::vector<std::int64_t> numbers(const KvStates& kept) {
  EXPECT_TRUE(at::equal(kept.key, -kept.value));
  EXPECT_TRUE(at::equal(kept.key.select(1, 0), kept.key.select(1, 1)));
  const Tensor row = kept.key.index({0, 0}).select(1, 2).to(at::kLong).contiguous();
  return {row.data_ptr<std::int64_t>(), row.data_ptr<std::int64_t>() + row.numel()};
}

std::vector<std::int64_t> range(std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = begin; i < end; ++i) out.push_back(i);
  return out;
}

// All ways to cut the first `size` tokens into calls of the lengths given, over and over.
void check(const std::vector<std::int64_t>& lengths, std::int64_t size) {
  KvCache cache(two_layers());
  std::int64_t before = 0;
  for (std::size_t i = 0; before < size; ++i) {
    const std::int64_t count = std::min(lengths[i % lengths.size()], size - before), end = before + count;
    std::vector<std::int64_t> ring = numbers(cache.update(0, tokens(before, end)));
    if (count == 1) std::ranges::sort(ring);
    EXPECT_EQ(ring, range(std::max<std::int64_t>(0, count == 1 ? end - 5 : before - 4), end))
        << before << " + " << count;
    EXPECT_EQ(numbers(cache.update(1, tokens(before, end))), range(0, end)) << before << " + " << count;
    before = end;
    EXPECT_EQ(cache.num_tokens(), before);
  }
}

TEST(KvCache, SlidingLayersSeeTheirWindowAndFullLayersAll) {
  for (const auto& lengths : std::vector<std::vector<std::int64_t>>{
           {1}, {2}, {3, 1}, {4, 1, 1}, {5}, {6, 1}, {7, 2, 1, 1, 1}, {23, 1}, {1, 4, 2}, {5, 1, 5}, {300, 1, 300}})
    check(lengths, lengths[0] == 300 ? 1000 : 31);
}

TEST(KvCache, SlidingLayersTakeNoMoreThanTheirWindow) {
  KvCache cache(two_layers());
  for (std::int64_t i = 0; i < 40; ++i) cache.update(0, tokens(i, i + 1));
  EXPECT_EQ(cache.bytes(), 2 * 2 * 5 * 3 * 4);  // keys and values, heads, window, width, float32
}

TEST(KvCache, FullLayersGrowInBlocks) {
  KvCache cache(two_layers());
  cache.update(1, tokens(0, 1));
  const std::int64_t block = cache.bytes();
  for (std::int64_t i = 1; i < 256; ++i) cache.update(1, tokens(i, i + 1));
  EXPECT_EQ(cache.bytes(), block);
  cache.update(1, tokens(256, 257));
  EXPECT_EQ(cache.bytes(), 2 * block);
}

}  // namespace
}  // namespace bezel::generate
