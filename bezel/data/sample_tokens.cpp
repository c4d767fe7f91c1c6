#include "bezel/data/sample_tokens.h"

#include <map>
#include <string_view>

#include "bezel/data/sample_media.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using Span = ExpandedText::Span;

constexpr std::int64_t kIgnore = -100;  // kIgnoreLabel of batch.h, which needs LibTorch

std::string block_text(const input::MediaWords& words, std::int64_t soft_tokens) {
  std::string out(words.open);
  for (std::int64_t i = 0; i < soft_tokens; ++i) out += words.placeholder;
  return out + std::string(words.close);
}

// Reference: Gemma4Processor.replace_video_token.
std::string media_text(const input::MediaWords& words, const MediaTokens& media) {
  const std::string block = block_text(words, media.soft_tokens);
  if (media.times.empty()) return block;
  std::string out;
  for (const std::string& time : media.times) out += (out.empty() ? "" : " ") + time + " " + block;
  return out;
}

// Maps offsets of the old text to the new one; queried in rising order.
class Shift {
 public:
  void add(std::size_t old_end, std::size_t growth) { steps_.push_back({old_end, growth}); }
  std::size_t apply(std::size_t offset) const {
    std::size_t out = offset;
    for (const auto& [end, growth] : steps_)
      if (end <= offset) out += growth;
    return out;
  }

 private:
  std::vector<std::pair<std::size_t, std::size_t>> steps_;
};

// Tests for rising offsets whether they are in one of some ordered spans.
class Inside {
 public:
  explicit Inside(const std::vector<Span>& spans) : spans_(spans) {}
  bool operator()(std::size_t offset) {
    while (next_ < spans_.size() && spans_[next_].second <= offset) ++next_;
    return next_ < spans_.size() && spans_[next_].first <= offset;
  }

 private:
  const std::vector<Span>& spans_;
  std::size_t next_ = 0;
};

// Number of tokens to keep, 0 when the sample has to go.
std::size_t cut_length(const Tokenizer::Encoding& encoding, const ExpandedText& text, std::size_t max_tokens) {
  if (max_tokens == 0 || encoding.ids.size() <= max_tokens) return encoding.ids.size();
  const std::size_t end = encoding.begin_bytes[max_tokens];
  const bool media_whole = text.media_spans.empty() || text.media_spans.back().second <= end;
  return media_whole ? max_tokens : 0;
}

// Token types by the ids of placeholders.
std::map<std::int64_t, std::int64_t> placeholder_types(const Tokenizer& tokenizer) {
  std::map<std::int64_t, std::int64_t> types;
  for (const input::MediaWords& words : input::kMediaWords.values)
    if (const auto id = tokenizer.token_id(words.placeholder)) types[*id] = words.token_type;
  return types;
}

}  // namespace

ExpandedText expand_placeholders(const SampleText& sample, std::span<const MediaTokens> given,
                                 std::span<const Span> wider_spans) {
  ExpandedText out;
  Shift shift;
  std::size_t done = 0, next = 0;
  for (auto hit = next_placeholder(sample.text, 0); hit; hit = next_placeholder(sample.text, done)) {
    const input::MediaWords& words = input::kMediaWords[hit->kind];
    if (next == given.size()) throw Error("more ", words.placeholder, " in the text than media");
    const std::string media = media_text(words, given[next++]);
    out.text.append(sample.text, done, hit->begin - done);
    out.media_spans.emplace_back(out.text.size(), out.text.size() + media.size());
    out.text += media;
    done = hit->begin + words.placeholder.size();
    shift.add(done, media.size() - words.placeholder.size());
  }
  out.text.append(sample.text, done);
  for (const auto& [begin, end] : sample.loss_spans) out.loss_spans.emplace_back(shift.apply(begin), shift.apply(end));
  for (const auto& [begin, end] : wider_spans) out.wider_spans.emplace_back(shift.apply(begin), shift.apply(end));
  return out;
}

std::optional<SampleTokens> tokenize_sample(const Tokenizer& tokenizer, const ExpandedText& text,
                                            std::size_t max_tokens) {
  Tokenizer::Encoding encoding = tokenizer.encode(text.text);
  const std::size_t length = cut_length(encoding, text, max_tokens);
  const auto type_of = placeholder_types(tokenizer);
  SampleTokens out;
  out.was_cut = length != encoding.ids.size();
  Inside in_loss(text.loss_spans), in_wider(text.wider_spans), in_media(text.media_spans);
  for (std::size_t i = 0; i < length; ++i) {
    const std::int64_t id = encoding.ids[i];
    const bool media = in_media(encoding.begin_bytes[i]);
    const bool learned = in_loss(encoding.begin_bytes[i]) && !media;
    out.labels.push_back(learned ? id : kIgnore);
    const auto type = type_of.find(id);
    out.token_types.push_back(media && type != type_of.end() ? type->second : 0);
    out.num_labels += learned && i > 0;
    if (!text.wider_spans.empty()) {
      const bool wider = in_wider(encoding.begin_bytes[i]) && !media;
      out.wider_labels.push_back(wider ? id : kIgnore);
      out.num_wider_labels += wider && i > 0;
    }
  }
  encoding.ids.resize(length);
  out.input_ids = std::move(encoding.ids);
  if (out.was_cut && out.num_labels == 0) return std::nullopt;
  return out;
}

}  // namespace bezel::data
