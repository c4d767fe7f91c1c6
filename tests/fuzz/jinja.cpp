// Chat templates. Their lexer: lines rise, the end comes once and last, and no token is longer than the template
// allows. Rendering: it ends within its limits, and every byte of the text has one origin.
#include <algorithm>

#include "bezel/io/json.h"
#include "bezel/jinja/lexer.h"
#include "bezel/jinja/template.h"
#include "fuzz/target.h"

namespace {

const bezel::io::Json& chat() {
  static const bezel::io::Json kChat = bezel::io::parse_json(
      R"({"messages":[{"role":"user","content":" \u00c9 <a>"},{"role":"assistant","content":[{"type":"text","text":"b"}],)"
      R"("tool_calls":[{"function":{"name":"f","arguments":{"x":1e-7,"y":[null,true,18446744073709551615]}}}]},)"
      R"({"role":"tool","content":"c\n"}],"tools":null,"add_generation_prompt":true,"bos_token":"<bos>","n":3})",
      "chat");
  return kChat;
}

void render(std::string_view source) {
  using namespace bezel;
  const auto parsed = fuzz::accepted([&] { return jinja::Template::parse(source, "input"); });
  if (!parsed) return;
  jinja::Context context;
  context.variables = &chat();
  context.limits = {.max_steps = 20'000, .max_text_bytes = 1u << 16, .max_depth = 200};
  context.now = [] { return std::tm{}; };
  const auto text = fuzz::accepted([&] { return parsed->render(context); });
  if (!text) return;
  std::size_t end = 0;
  for (const auto& run : text->runs()) {
    fuzz::require(run.end > end && run.origin.message >= -1 && run.origin.message < 3);
    end = run.end;
  }
  fuzz::require(end == text->size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bezel;
  const auto source = fuzz::as_text(data, size);
  const auto tokens = fuzz::accepted([&] { return jinja::tokenize(source, "input"); });
  if (!tokens) return 0;
  render(source);
  const auto lines = 1 + std::count_if(source.begin(), source.end(), [](char c) { return c == '\n' || c == '\r'; });
  int line = 1;
  std::size_t bytes = 0;
  for (const auto& token : *tokens) {
    fuzz::require(token.line >= line && token.line <= lines);
    fuzz::require((token.kind == jinja::TokenKind::kEnd) == (&token == &tokens->back()));
    line = token.line;
    bytes += token.text.size();
  }
  fuzz::require(bytes <= 2 * size);
  return 0;
}
