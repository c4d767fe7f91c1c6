#pragma once

#include <cstdint>
#include <vector>

#include "bezel/gemma4/config.h"
#include "bezel/io/zarr_store.h"

namespace bezel::gemma4 {

/// An array of Google's Gemma 4 by its name in the released form (nested).
struct OrbaxArray {
  io::ZarrName name;
  std::vector<std::int64_t> shape;
};

/// All arrays that the release of such a model has, but for rows that Hugging Face's form has no place for
/// (mm_input_embedding_extra). Reference: google-deepmind/gemma, gm/nn/gemma4.
std::vector<OrbaxArray> orbax_arrays(const ModelConfig& config);

}  // namespace bezel::gemma4
