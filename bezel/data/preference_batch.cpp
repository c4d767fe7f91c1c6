#include "bezel/data/preference_batch.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "bezel/data/shared_prefix.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

// Where the answer begins: what is before it carries no loss.
std::ptrdiff_t answer_begin(const Sample& sample) {
  return std::ranges::find_if(sample.labels, [](std::int64_t label) { return label != kIgnoreLabel; }) -
         sample.labels.begin();
}

template <typename Values>
void take_tail(Values& values, std::ptrdiff_t prompt, const Values& other, std::ptrdiff_t begin, std::size_t length) {
  values.resize(static_cast<std::size_t>(prompt));
  values.insert(values.end(), other.begin() + begin, other.end());
  values.resize(std::min(values.size(), length));
}

}  // namespace

Batch collate_answers(std::span<const Sample> rows, std::span<const std::int64_t> answers, std::int64_t pad_id,
                      bool shares) {
  TORCH_CHECK(rows.size() == answers.size(), rows.size(), " rows have ", answers.size(), " numbers");
  Batch batch = shares ? collate_shared(rows) : collate(rows, pad_id);
  auto preferences = std::make_shared<PreferenceRows>();
  preferences->answers.assign(answers.begin(), answers.end());
  for (const Sample& row : rows) {
    preferences->roles.push_back(row.role);
    for (std::size_t t = 1; t < row.labels.size(); ++t)
      if (row.labels[t] != kIgnoreLabel) {
        preferences->is_answer.push_back(row.answer_labels.empty() || row.answer_labels[t] != kIgnoreLabel);
        preferences->label_answer.push_back(static_cast<std::int64_t>(preferences->roles.size()) - 1);
      }
  }
  batch.preferences = std::move(preferences);
  return batch;
}

Sample mismatched(const Sample& asked, const Sample& answered, std::size_t max_tokens) {
  const std::ptrdiff_t prompt = answer_begin(asked), begin = answer_begin(answered);
  const std::size_t length = max_tokens == 0 ? SIZE_MAX : max_tokens;
  Sample sample = asked;
  sample.role = answered.role;
  take_tail(sample.input_ids, prompt, answered.input_ids, begin, length);
  take_tail(sample.labels, prompt, answered.labels, begin, length);
  take_tail(sample.token_types, prompt, answered.token_types, begin, length);
  return sample;
}

}  // namespace bezel::data
