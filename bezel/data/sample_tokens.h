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

/// A text whose placeholders stand for all the soft tokens of their image or audio clip.
struct ExpandedText {
  using Span = std::pair<std::size_t, std::size_t>;
  std::string text;
  std::vector<Span> loss_spans;   ///< byte ranges
  std::vector<Span> media_spans;  ///< byte ranges, their opening and closing tokens included
};

/// Turns each <|image|> into <|image> + n times <|image|> + <image|>, and the same for audio, as the processor does
/// before it tokenizes. `soft_tokens` gives n of each in the order of the text.
ExpandedText expand_placeholders(const SampleText& sample, std::span<const std::int64_t> soft_tokens);

struct SampleTokens {
  std::vector<std::int64_t> input_ids;
  std::vector<std::int64_t> labels;       ///< the token itself where it begins inside a loss span, else kIgnoreLabel
  std::vector<std::int64_t> token_types;  ///< MediaWords::token_type on placeholders, else 0
  std::size_t num_labels = 0;             ///< labels that some position predicts, that is, not the first token's
  bool was_cut = false;
};

/// Tokenizes and labels; nothing when the sample is longer than `max_tokens` and cannot be cut at its end with every
/// media span whole and a label left. max_tokens 0 means no bound.
std::optional<SampleTokens> tokenize_sample(const Tokenizer& tokenizer, const ExpandedText& text,
                                            std::size_t max_tokens);

}  // namespace bezel::data
