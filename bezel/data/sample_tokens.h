#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bezel/data/sample_text.h"
#include "bezel/data/tokenizer.h"

namespace bezel::data {

/// The placeholder of an item of media.
struct MediaTokens {
  std::int64_t soft_tokens = 0;      ///< of a video: of each frame
  std::vector<std::string> times{};  ///< of a video: "mm:ss" before each frame

  std::int64_t total() const {
    return times.empty() ? soft_tokens : soft_tokens * static_cast<std::int64_t>(times.size());
  }
};

/// A text in which each placeholder represents all soft tokens of its item of media.
struct ExpandedText {
  using Span = std::pair<std::size_t, std::size_t>;
  std::string text;
  std::vector<Span> loss_spans;   ///< byte ranges
  std::vector<Span> wider_spans;  ///< those and the prompt's, where it is learned too
  std::vector<Span> media_spans;  ///< byte ranges, their opening and closing tokens and a video's times included
};

/// Turns each <|image|> into <|image> + n times <|image|> + <image|>, and the same for audio, as the processor does
/// before it tokenizes. <|video|> becomes "mm:ss <|image>" + n times <|video|> + "<image|>" for each frame, one blank
/// between them. `given` has n of each in the order of the text. `wider_spans` are of the sample's text.
ExpandedText expand_placeholders(const SampleText& sample, std::span<const MediaTokens> given,
                                 std::span<const ExpandedText::Span> wider_spans = {});

struct SampleTokens {
  std::vector<std::int64_t> input_ids;
  std::vector<std::int64_t> labels;        ///< the token itself where it begins inside a loss span, else kIgnoreLabel
  std::vector<std::int64_t> token_types;   ///< MediaWords::token_type on placeholders, else 0
  std::vector<std::int64_t> wider_labels;  ///< the same for wider_spans; empty where there are none
  std::size_t num_labels = 0;              ///< labels that some position predicts, that is, not the first token's
  std::size_t num_wider_labels = 0;        ///< the same of wider_labels
  bool was_cut = false;
};

/// Tokenizes and labels; nothing when the sample is longer than `max_tokens` and cannot be cut at its end with every
/// media span whole and a label left. max_tokens 0 means no bound.
std::optional<SampleTokens> tokenize_sample(const Tokenizer& tokenizer, const ExpandedText& text,
                                            std::size_t max_tokens);

}  // namespace bezel::data
