#pragma once

#include <vector>

#include "bezel/gemma4/text.h"

namespace bezel::generate {

/// Keys and values of one sequence. Full layers keep all of them in blocks that grow; sliding layers keep the last
/// `window` in a ring; layers that share keys and values keep nothing.
class KvCache final : public gemma4::KvCache {
 public:
  explicit KvCache(const gemma4::TextConfig& config);

  std::int64_t num_tokens() const override { return layers_.front().num_tokens; }
  gemma4::KvStates update(std::int64_t layer_idx, const gemma4::KvStates& fresh) override;

  /// Bytes that are allocated.
  std::int64_t bytes() const;

 private:
  struct Layer {
    std::int64_t window = 0;      // of a sliding layer; 0: full
    std::int64_t num_tokens = 0;  // seen so far
    gemma4::KvStates kept;        // [1, K, capacity, D]; in a ring, position p is at p % window
  };

  static void reserve(Layer& layer, std::int64_t num_slots, const gemma4::KvStates& like);
  static gemma4::KvStates update_full(Layer& layer, const gemma4::KvStates& fresh);
  static gemma4::KvStates update_ring(Layer& layer, const gemma4::KvStates& fresh);

  std::vector<Layer> layers_;
};

}  // namespace bezel::generate
