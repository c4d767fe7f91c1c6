#include "bezel/report/sample_view.h"

#include <span>

namespace bezel::report {
namespace {

SampleStretch::Kind kind_of(std::int64_t token_type) {
  if (token_type == 1) return SampleStretch::Kind::kImage;
  return token_type == 3 ? SampleStretch::Kind::kAudio : SampleStretch::Kind::kText;
}

std::vector<SampleStretch> stretches_of(const data::Tokenizer& tokenizer, const data::Sample& sample) {
  std::vector<SampleStretch> out;
  const std::span<const std::int64_t> ids(sample.input_ids);
  for (std::size_t begin = 0; begin < ids.size();) {
    const auto state = [&](std::size_t i) {
      return std::pair(kind_of(sample.token_types[i]), sample.labels[i] != data::kIgnoreLabel);
    };
    std::size_t end = begin + 1;
    while (end < ids.size() && state(end) == state(begin)) ++end;
    const auto [kind, learnt] = state(begin);
    SampleStretch stretch{.kind = kind, .learnt = learnt, .num_tokens = end - begin, .text = {}};
    if (kind == SampleStretch::Kind::kText) stretch.text = tokenizer.decode(ids.subspan(begin, end - begin));
    out.push_back(std::move(stretch));
    begin = end;
  }
  return out;
}

}  // namespace

SampleView view_sample(const data::Dataset& data, std::size_t idx) {
  const data::Sample sample = data.load(idx);
  SampleView view{.source = data.source(idx),
                  .stretches = stretches_of(data.tokenizer(), sample),
                  .ids = sample.input_ids,
                  .whole_tokens = sample.input_ids.size(),
                  .media = data.media(idx)};
  for (std::size_t i = 0; i < view.ids.size(); ++i) {
    view.learnt.push_back(sample.labels[i] != data::kIgnoreLabel);
    view.words.push_back(data.tokenizer().word(view.ids[i]));
    view.num_labels += view.learnt.back() && i > 0;
  }
  std::size_t next_image = 0, next_recording = 0;
  for (data::MediaInfo& media : view.media)
    media.soft_tokens = media.kind == data::MediaKind::kImage ? sample.images[next_image++].num_soft_tokens
                                                              : sample.recordings[next_recording++].soft_rows.size(0);
  const std::size_t max_tokens = data.options().max_seq_length;
  if (max_tokens == 0 || view.ids.size() < max_tokens) return view;
  const data::Sample whole = data.load(idx, /*whole=*/true);
  view.whole_tokens = whole.input_ids.size();
  view.cut_text = data.tokenizer().decode(std::span(whole.input_ids).subspan(view.ids.size()));
  return view;
}

}  // namespace bezel::report
