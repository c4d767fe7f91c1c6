#include "bezel/data/turn_marks.h"

#include <algorithm>
#include <string_view>

#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;
using jinja::TracedText;

constexpr std::string_view kQuestion = "question", kAnswer = "answer";

Json chat(int turns) {
  Json messages = Json::array();
  for (int i = 0; i < turns; ++i)
    messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", i % 2 == 0 ? kQuestion : kAnswer}});
  return messages;
}

TracedText render(const jinja::Template& chat_template, const Json& variables, int turns, bool prompt) {
  const Json all = template_variables(variables, chat(turns), nullptr, prompt);
  jinja::Context context;
  context.variables = &all;
  return chat_template.render(context);
}

std::size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

std::string_view without_blanks(std::string_view text) {
  const auto end = text.find_last_not_of(" \t\r\n");
  return text.substr(0, end == std::string_view::npos ? 0 : end + 1);
}

// What the template writes behind the last message for a generation prompt.
std::string generation_prompt(const TracedText& text) {
  std::size_t end = 0;
  for (const auto& run : text.runs())
    if (run.origin.message >= 0) end = run.end;
  return text.bytes().substr(end);
}

// The common prefix; where it ends inside a mark such as <think>, the text before the mark.
std::string header_of(std::string_view opening, std::string_view prompt) {
  std::size_t size = common_prefix(opening, prompt);
  if (size == opening.size() || size == prompt.size()) return std::string(opening.substr(0, size));
  while (size > 0 && std::string_view(">]\n :").find(opening[size - 1]) == std::string_view::npos) --size;
  return std::string(opening.substr(0, size));
}

struct Region {
  std::string opening, closing;  // text of the template around the message's own
  bool found = false;
};

Region region_of(const TracedText& text, std::int32_t message) {
  Region region;
  std::size_t begin = 0;
  for (const auto& run : text.runs()) {
    const std::string part = text.bytes().substr(begin, run.end - begin);
    begin = run.end;
    if (run.origin.message != message) continue;
    if (run.origin.own) {
      region.found = true;
      region.closing.clear();
    } else {
      (region.found ? region.closing : region.opening) += part;
    }
  }
  return region;
}

}  // namespace

Json template_variables(Json variables, Json messages, Json tools, bool add_generation_prompt) {
  variables["messages"] = std::move(messages);
  variables["tools"] = std::move(tools);
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = add_generation_prompt;
  return variables;
}

TurnMarks find_turn_marks(const jinja::Template& chat_template, const Json& variables) {
  TurnMarks marks;
  try {
    const std::string prompt = generation_prompt(render(chat_template, variables, 1, true));
    const Region region = region_of(render(chat_template, variables, 4, false), 1);
    marks.header = header_of(region.opening, prompt);
    if (prompt.starts_with(marks.header)) marks.prompt_tail = prompt.substr(marks.header.size());
    marks.end = without_blanks(region.closing);
    if (!region.found)
      marks.problem = "it does not render the answers of a chat";
    else if (marks.header.empty() && !without_blanks(region.opening).empty())
      marks.problem = "its generation prompt does not open a turn as its answers do";
    else if (marks.end.empty())
      marks.problem = "it marks no end of an answer";
  } catch (const Error& error) {
    marks.problem = error.what();
  }
  return marks;
}

}  // namespace bezel::data
