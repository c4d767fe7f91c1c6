#include "bezel/report/sample_view.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <span>

namespace bezel::report {
namespace {

// Nothing for text.
std::optional<input::MediaKind> kind_of(std::int64_t token_type) {
  for (const input::MediaKind kind : input::kMediaKinds)
    if (token_type == input::kMediaWords[kind].token_type) return kind;
  return std::nullopt;
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
    SampleStretch stretch{.media = kind, .learnt = learnt, .num_tokens = end - begin, .text = {}};
    if (!kind) stretch.text = tokenizer.decode(ids.subspan(begin, end - begin));
    out.push_back(std::move(stretch));
    begin = end;
  }
  return out;
}

std::string answer_name(data::AnswerRole role) {
  constexpr const char* kNames[] = {"", "chosen", "rejected", "desirable", "undesirable"};
  return kNames[static_cast<int>(role)];
}

// `whole` loads the sample before its end was cut off.
SampleView view_row(const data::Dataset& data, std::size_t idx, const data::Sample& sample,
                    const std::function<data::Sample()>& whole) {
  SampleView view{.source = data.source(idx),
                  .answer = answer_name(sample.role),
                  .stretches = stretches_of(data.tokenizer(), sample),
                  .ids = sample.input_ids,
                  .whole_tokens = sample.input_ids.size(),
                  .media = data.media(idx)};
  for (std::size_t i = 0; i < view.ids.size(); ++i) {
    view.learnt.push_back(sample.labels[i] != data::kIgnoreLabel);
    view.words.push_back(data.tokenizer().word(view.ids[i]));
    view.num_labels += view.learnt.back() && i > 0;
  }
  std::size_t next = 0;
  for (data::MediaInfo& media : view.media) {
    media.tokens.soft_tokens = sample.media[next].num_soft_tokens;
    next += std::max<std::size_t>(1, media.tokens.times.size());
  }
  const std::size_t max_tokens = data.options().max_seq_length;
  if (max_tokens == 0 || view.ids.size() < max_tokens) return view;
  const data::Sample all = whole();
  view.whole_tokens = all.input_ids.size();
  view.cut_text = data.tokenizer().decode(std::span(all.input_ids).subspan(view.ids.size()));
  return view;
}

}  // namespace

SampleView view_sample(const data::Dataset& data, std::size_t idx) {
  return view_row(data, idx, data.load(idx), [&] { return data.load(idx, /*whole=*/true); });
}

std::vector<SampleView> view_answers(const data::Dataset& data, std::size_t idx) {
  const std::vector<data::Sample> rows = data.load_rows(idx);
  std::vector<SampleView> views;
  for (std::size_t i = 0; i < rows.size(); ++i)
    views.push_back(view_row(data, idx, rows[i], [&] { return data.load_rows(idx, /*whole=*/true)[i]; }));
  return views;
}

}  // namespace bezel::report
