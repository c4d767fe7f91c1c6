#pragma once

#include <cstdint>
#include <vector>

#include "bezel/gemma4/config.h"

namespace bezel::gemma4 {

/// Positions that a decoder layer computes.
enum class QueryRows {
  kAll,       ///< all that it is given
  kGather,    ///< keys and values of all, everything else of the queries only
  kGathered,  ///< all that it is given, which are the queries
};

/// What a decoder layer does in a call; needs no weights.
struct LayerPlan {
  std::int64_t layer = 0;
  LayerType type = LayerType::kSliding;  ///< rope table and key ranges
  QueryRows rows = QueryRows::kAll;
  std::int64_t kv_layer = 0;  ///< the layer whose keys and values it reads: itself, or an earlier one
  bool shares_kv = false;     ///< later layers read its keys and values

  bool owns_kv() const { return kv_layer == layer; }
};

/// One entry for each layer. With `gathers` the states of some positions only are wanted: the last layer with keys of
/// its own gathers them, since no layer above reads keys or values of the other positions.
std::vector<LayerPlan> plan_layers(const TextConfig& config, bool gathers);

}  // namespace bezel::gemma4
