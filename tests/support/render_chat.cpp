#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "bezel/data/chat_template.h"
#include "bezel/data/checkpoint_template.h"
#include "bezel/data/tokenizer.h"
#include "bezel/error.h"

namespace {

using bezel::io::Json;
using namespace bezel::data;

std::shared_ptr<const CheckpointTemplate> load(const std::string& path) {
  static std::map<std::string, std::shared_ptr<const CheckpointTemplate>> loaded;
  auto& one = loaded[path];
  if (one == nullptr) one = CheckpointTemplate::load("", path);
  return one;
}

ChatOptions options_of(const Json& line) {
  ChatOptions options;
  const std::string chat_template = line.value("template", "");
  if (!chat_template.empty()) options.checkpoint_template = load(chat_template);
  options.format = line.value("format", "") == "gemma3" ? ChatFormat::kGemma3
                   : line.value("format", "") == "edge" ? ChatFormat::kEdge
                                                        : ChatFormat::kLarge;
  options.template_kwargs = line.value("kwargs", Json::object());
  options.enable_thinking = line.value("thinking", false);
  options.add_generation_prompt = line.value("prompt", false);
  options.mask_history = line.value("mask_history", false);
  return options;
}

Json render(const Json& line, const Tokenizer& tokenizer) {
  try {
    const Json tools = line.value("tools", Json());
    const bezel::io::JsonView messages(line.at("messages"), "chat", "messages");
    const RenderedChat chat = render_chat(messages, &tools, options_of(line));
    return {{"text", chat.text},
            {"ids", tokenizer.encode(chat.text).ids},
            {"loss_spans", chat.loss_spans},
            {"left_out", chat.left_out},
            {"problem", chat.no_spans}};
  } catch (const bezel::Error& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace

// Renders {"template" (a file; none: by "format"), "messages", "tools", "kwargs" …} of each line of stdin. The argument
// is a tokenizer.json.
int main(int, char** argv) {
  try {
    const Tokenizer tokenizer = Tokenizer::from_file(argv[1]);
    for (std::string line; std::getline(std::cin, line);)
      std::cout << render(bezel::io::parse_json(line, "stdin"), tokenizer).dump() << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
