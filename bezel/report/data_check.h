#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bezel/data/dataset.h"

namespace bezel::report {

/// Samples of `from` to `to` tokens, both included.
struct LengthBin {
  std::size_t from = 0;
  std::size_t to = 0;
  std::size_t count = 0;
};

/// At most `max_bins` bins of equal width, a round number, from the shortest to the longest.
std::vector<LengthBin> length_histogram(std::span<const std::size_t> lengths, std::size_t max_bins = 12);

/// A data set checked from end to end.
struct DataCheck {
  std::vector<std::size_t> lengths;    ///< tokens of each sample
  std::vector<std::string> bad_media;  ///< "file:line: …" of each sample whose media cannot be decoded, in order
  std::size_t label_tokens = 0;
  input::PerKind<data::MediaCount> media{};

  std::size_t tokens() const;
};

/// Decodes the media of every sample, on all of LibTorch's threads. `on_progress` is called from this thread.
DataCheck check_data(const data::Dataset& data,
                     const std::function<void(std::size_t done, std::size_t total)>& on_progress = {});

}  // namespace bezel::report
