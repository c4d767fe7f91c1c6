#include "bezel/generate/kv_cache.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace bezel::generate {
namespace {

using gemma4::KvStates;
using torch::Tensor;

constexpr std::int64_t kBlockTokens = 256;

KvStates part(const KvStates& of, std::int64_t begin, std::int64_t count) {
  return {of.key.narrow(2, begin, count), of.value.narrow(2, begin, count)};
}

void copy(const KvStates& from, const KvStates& to) {
  to.key.copy_(from.key);
  to.value.copy_(from.value);
}

// A stretch of a ring is one or two stretches of memory: calls visit(slot, begin in the stretch, count).
template <typename Visit>
void each_stretch(std::int64_t first_slot, std::int64_t count, std::int64_t num_slots, const Visit& visit) {
  const std::int64_t until_end = std::min(count, num_slots - first_slot);
  if (until_end > 0) visit(first_slot, 0, until_end);
  if (count > until_end) visit(0, until_end, count - until_end);
}

}  // namespace

KvCache::KvCache(const gemma4::TextConfig& config) : layers_(static_cast<std::size_t>(config.num_layers)) {
  for (std::size_t i = 0; i < layers_.size(); ++i)
    if (config.layers[i].type == gemma4::LayerType::kSliding) layers_[i].window = config.sliding_window;
}

KvStates KvCache::update(std::int64_t layer_idx, const KvStates& fresh) {
  Layer& layer = layers_.at(static_cast<std::size_t>(layer_idx));
  TORCH_CHECK(fresh.key.size(0) == 1, "the cache holds one sequence, not ", fresh.key.size(0));
  const KvStates attended = layer.window > 0 ? update_ring(layer, fresh) : update_full(layer, fresh);
  layer.num_tokens += fresh.key.size(2);
  return attended;
}

// Reserves memory for `num_slots`, a quarter more than there was at least, so that copying stays a small share of the
// work.
void KvCache::reserve(Layer& layer, std::int64_t num_slots, const KvStates& like) {
  const std::int64_t held = layer.kept.key.defined() ? layer.kept.key.size(2) : 0;
  if (num_slots <= held) return;
  const std::int64_t blocks = (std::max(num_slots, held + held / 4) + kBlockTokens - 1) / kBlockTokens;
  const std::int64_t capacity =
      layer.window > 0 ? std::min(layer.window, blocks * kBlockTokens) : blocks * kBlockTokens;
  const auto empty = [&](const Tensor& tensor) {
    return at::empty({1, tensor.size(1), capacity, tensor.size(3)}, tensor.options());
  };
  const KvStates larger{empty(like.key), empty(like.value)};
  if (held > 0) copy(layer.kept, part(larger, 0, held));
  layer.kept = larger;
}

KvStates KvCache::update_full(Layer& layer, const KvStates& fresh) {
  const std::int64_t before = layer.num_tokens, count = fresh.key.size(2);
  reserve(layer, before + count, fresh);
  copy(fresh, part(layer.kept, before, count));
  return part(layer.kept, 0, before + count);
}

KvStates KvCache::update_ring(Layer& layer, const KvStates& fresh) {
  const std::int64_t before = layer.num_tokens, count = fresh.key.size(2), window = layer.window;
  const std::int64_t num_past = count > 1 ? std::min(before, window - 1) : 0;
  std::vector<Tensor> keys, values;  // in the order of positions; a single token reads the ring in place
  each_stretch((before - num_past) % window, num_past, window, [&](std::int64_t slot, std::int64_t, std::int64_t n) {
    keys.push_back(layer.kept.key.narrow(2, slot, n));
    values.push_back(layer.kept.value.narrow(2, slot, n));
  });
  KvStates attended = fresh;
  if (!keys.empty()) {
    keys.push_back(fresh.key);
    values.push_back(fresh.value);
    attended = {at::cat(keys, 2), at::cat(values, 2)};
  }
  reserve(layer, std::min(window, before + count), fresh);
  const std::int64_t stays = std::min(count, window);
  const KvStates last = part(fresh, count - stays, stays);
  each_stretch((before + count - stays) % window, stays, window,
               [&](std::int64_t slot, std::int64_t begin, std::int64_t n) {
                 copy(part(last, begin, n), part(layer.kept, slot, n));
               });
  return count == 1 ? part(layer.kept, 0, std::min(window, before + 1)) : attended;
}

std::int64_t KvCache::bytes() const {
  std::int64_t sum = 0;
  for (const Layer& layer : layers_)
    if (layer.kept.key.defined()) sum += static_cast<std::int64_t>(layer.kept.key.nbytes() + layer.kept.value.nbytes());
  return sum;
}

}  // namespace bezel::generate
