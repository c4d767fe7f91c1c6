#include "bezel/data/answer.h"

#include <algorithm>

#include "bezel/data/sample_media.h"

namespace bezel::data {
namespace {

constexpr std::string_view kBos = "<bos>";

bool is_blank(char c) { return std::string_view(" \t\n\r\f\v").find(c) != std::string_view::npos; }

std::string normalized(std::string_view text, bool ignore_case) {
  std::string out;
  for (const char c : text) {
    if (!is_blank(c))
      out += ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  if (out.ends_with(' ')) out.pop_back();
  return out;
}

}  // namespace

std::optional<PromptAndAnswer> split_answer(const SampleText& sample, ChatFormat format) {
  if (sample.answers.empty() || sample.answers.back().first <= kBos.size()) return std::nullopt;
  const bool by_template = !sample.turn_header.empty();
  const auto [begin, end] = sample.answers.back();
  PromptAndAnswer asked;
  asked.prompt.text = sample.text.substr(0, begin);
  for (auto hit = next_placeholder(asked.prompt.text, 0); hit;
       hit = next_placeholder(asked.prompt.text, hit->begin + 1))
    if (const std::size_t next = asked.prompt.media.size(); next < sample.media.size())
      asked.prompt.media.push_back(sample.media[next]);
  if (by_template && asked.prompt.text.ends_with(sample.turn_header))
    asked.prompt.text += sample.prompt_tail;
  else if (!by_template && asked.prompt.text.ends_with("<|turn>model\n"))
    asked.prompt.text += generation_tail(format, asked.prompt.text.starts_with("<bos><|turn>system\n<|think|>\n"));
  asked.answer = answer_text(std::string_view(sample.text).substr(begin, end - begin));
  return asked;
}

std::string answer_text(std::string_view text) {
  for (const std::string_view end : {"<turn|>", "<end_of_turn>", "<eos>"})
    if (text.ends_with(end)) text.remove_suffix(end.size());
  return without_thoughts(text);
}

AnswerScore score_answer(std::string_view said, std::string_view expected, bool ignore_case) {
  const std::string one = normalized(said, ignore_case), other = normalized(expected, ignore_case);
  return {one == other, other.empty() ? one.empty() : one.find(other) != std::string::npos};
}

}  // namespace bezel::data
