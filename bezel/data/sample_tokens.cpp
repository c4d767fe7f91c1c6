#include "bezel/data/sample_tokens.h"

#include <algorithm>
#include <string_view>

#include "bezel/error.h"

namespace bezel::data {
namespace {

using Span = ExpandedText::Span;

constexpr std::int64_t kIgnore = -100;  // kIgnoreLabel of batch.h, which needs LibTorch
constexpr std::string_view kImage = "<|image|>";
constexpr std::string_view kAudio = "<|audio|>";

std::string media_text(bool is_image, std::int64_t count) {
  std::string out = is_image ? "<|image>" : "<|audio>";
  for (std::int64_t i = 0; i < count; ++i) out += is_image ? kImage : kAudio;
  return out + (is_image ? "<image|>" : "<audio|>");
}

// Where offsets of the old text lie in the new one; asked for in rising order.
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

// Says for offsets in rising order whether they lie in one of some ordered spans.
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

}  // namespace

ExpandedText expand_placeholders(const SampleText& sample, std::span<const std::int64_t> image_tokens,
                                 std::span<const std::int64_t> audio_tokens) {
  ExpandedText out;
  Shift shift;
  std::size_t done = 0, next_image = 0, next_audio = 0;
  while (true) {
    const auto image = sample.text.find(kImage, done);
    const auto audio = sample.text.find(kAudio, done);
    const auto hit = std::min(image, audio);
    if (hit == std::string::npos) break;
    const bool is_image = hit == image;
    if (is_image ? next_image == image_tokens.size() : next_audio == audio_tokens.size())
      throw Error("more ", is_image ? kImage : kAudio, " in the text than media");
    const std::string media = media_text(is_image, is_image ? image_tokens[next_image++] : audio_tokens[next_audio++]);
    out.text.append(sample.text, done, hit - done);
    out.media_spans.emplace_back(out.text.size(), out.text.size() + media.size());
    out.text += media;
    done = hit + kImage.size();
    shift.add(done, media.size() - kImage.size());
  }
  out.text.append(sample.text, done);
  for (const auto& [begin, end] : sample.loss_spans) out.loss_spans.emplace_back(shift.apply(begin), shift.apply(end));
  return out;
}

std::optional<SampleTokens> tokenize_sample(const Tokenizer& tokenizer, const ExpandedText& text,
                                            std::size_t max_tokens) {
  Tokenizer::Encoding encoding = tokenizer.encode(text.text);
  const std::size_t length = cut_length(encoding, text, max_tokens);
  const std::int64_t image_id = tokenizer.token_id(kImage).value_or(-1);
  const std::int64_t audio_id = tokenizer.token_id(kAudio).value_or(-1);
  SampleTokens out;
  out.was_cut = length != encoding.ids.size();
  Inside in_loss(text.loss_spans), in_media(text.media_spans);
  for (std::size_t i = 0; i < length; ++i) {
    const std::int64_t id = encoding.ids[i];
    const bool media = in_media(encoding.begin_bytes[i]);
    const bool learned = in_loss(encoding.begin_bytes[i]) && !media;
    out.labels.push_back(learned ? id : kIgnore);
    out.token_types.push_back(!media ? 0 : id == image_id ? 1 : id == audio_id ? 3 : 0);
    out.num_labels += learned && i > 0;
  }
  encoding.ids.resize(length);
  out.input_ids = std::move(encoding.ids);
  if (out.was_cut && out.num_labels == 0) return std::nullopt;
  return out;
}

}  // namespace bezel::data
