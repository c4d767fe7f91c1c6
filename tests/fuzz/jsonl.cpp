// A data set's lines, from the file to tokens and labels.
#include "bezel/data/jsonl.h"

#include "bezel/data/sample_text.h"
#include "bezel/data/sample_tokens.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;

constexpr std::size_t kMaxTokens = 64;

const data::Tokenizer& tokenizer() {
  static const data::Tokenizer tokenizer = data::Tokenizer::from_file(BEZEL_TEST_DATA "/tiny_tokenizer.json");
  return tokenizer;
}

void check_spans(const std::vector<std::pair<std::size_t, std::size_t>>& spans, std::size_t text_bytes) {
  std::size_t end = 0;
  for (const auto& [span_begin, span_end] : spans) {
    fuzz::require(span_begin >= end && span_end >= span_begin && span_end <= text_bytes);
    end = span_end;
  }
}

void check_sample(const std::string& line, const data::SampleOptions& options) {
  const auto accepted =
      fuzz::accepted([&] { return data::read_sample(io::parse_json(line, "input:1"), "input:1", options); });
  if (!accepted) return;
  const data::SampleText& sample = *accepted;
  check_spans(sample.loss_spans, sample.text.size());
  const std::vector<data::MediaTokens> media(sample.media.size(), data::MediaTokens{.soft_tokens = 3});
  const data::ExpandedText text = data::expand_placeholders(sample, media);
  check_spans(text.loss_spans, text.text.size());
  check_spans(text.media_spans, text.text.size());
  const auto tokens = data::tokenize_sample(tokenizer(), text, kMaxTokens);
  if (!tokens) return;
  fuzz::require(tokens->input_ids.size() <= kMaxTokens && tokens->num_labels <= tokens->input_ids.size());
  fuzz::require(tokens->labels.size() == tokens->input_ids.size());
  fuzz::require(tokens->token_types.size() == tokens->input_ids.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // zlib's data cannot become more than 1,032 times as long.
  constexpr std::size_t kMostTimes = 1032;
  const auto opened = fuzz::accepted([&] { return data::JsonlFile(fuzz::as_file(data, size)); });
  if (!opened) return 0;
  const data::JsonlFile& file = *opened;
  for (std::size_t idx = 0; idx < file.size(); ++idx) {
    const std::string line = file.read(idx);
    fuzz::require(!line.empty() && line.size() <= kMostTimes * size);
    check_sample(line, {});
    check_sample(line, {.chat = {.mask_history = true}, .train_on_inputs = true});
  }
  return 0;
}
