#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bezel/data/dataset.h"

namespace bezel::report {

/// A run of a sample's tokens of one kind.
struct SampleStretch {
  std::optional<input::MediaKind> media{};  ///< nothing for text
  bool learnt = false;                      ///< its tokens carry loss
  std::size_t num_tokens = 0;
  std::string text;  ///< of text: what the tokens decode to
};

/// A sample as the model sees it.
struct SampleView {
  std::string source;    ///< "file:line"
  std::string answer{};  ///< "chosen", "rejected", "desirable" or "undesirable"; "" for a supervised sample
  std::vector<SampleStretch> stretches;
  std::vector<std::int64_t> ids;
  std::vector<bool> learnt{};        ///< of each token, whether it is a label
  std::vector<std::string> words{};  ///< of each token, as the vocabulary spells it
  std::size_t num_labels = 0;
  std::size_t whole_tokens = 0;  ///< before its end was cut off for max_seq_length
  std::string cut_text{};        ///< what was cut off
  std::vector<data::MediaInfo> media;
};

/// Sample `idx`, media decoded, so that the numbers of soft tokens are those of training. Throws Error "file:line: …".
SampleView view_sample(const data::Dataset& data, std::size_t idx);
/// Each answer of sample `idx`: itself, or of a pair the chosen one and the rejected one.
std::vector<SampleView> view_answers(const data::Dataset& data, std::size_t idx);

}  // namespace bezel::report
