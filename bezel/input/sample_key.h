#pragma once

#include <cstdint>

#include "bezel/kernels/counter_hash.h"

namespace bezel::input {

/// Key of the random numbers of row `row` of sample `sample` of a data set. A position in it has this key + position.
inline std::uint64_t sample_key(std::uint64_t sample, std::uint64_t row) { return kernels::combine_keys(sample, row); }

/// Key of item `item` of the media of a sample.
inline std::uint64_t media_key(std::uint64_t sample_key, std::uint64_t item) {
  return kernels::combine_keys(~sample_key, item);
}

}  // namespace bezel::input
