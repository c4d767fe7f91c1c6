#include "bezel/data/template_check.h"

#include <filesystem>
#include <sstream>
#include <string_view>

#include "bezel/error.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/json.h"
#include "bezel/io/mapped_file.h"
#include "bezel/io/regular_file.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxTemplateBytes = 1u << 20;  // released ones have some 20 KB

bool has_turns(std::string_view text, const ChatTokens& turn) {
  return text.find(turn.begin) != std::string_view::npos && text.find(turn.end) != std::string_view::npos;
}

bool is_known_file(const std::string& path, const ChatTokens& turn) {
  const auto file = io::MappedFile::open(path);
  if (file->size_bytes() > kMaxTemplateBytes)
    throw Error(path, ": ", file->size_bytes(), " bytes, at most ", kMaxTemplateBytes, " are read as a chat template");
  return has_turns({reinterpret_cast<const char*>(file->data()), file->size_bytes()}, turn);
}

/// A template, or a list of {name, template} of which "default" is the one for chats.
bool is_known_value(const io::JsonView& value, const ChatTokens& turn) {
  if (!value.is_array()) return has_turns(value.text(), turn);
  for (const io::JsonView& item : value.elements())
    if (item.at("name").text() == "default") return has_turns(item.at("template").text(), turn);
  return true;  // transformers, too, has none to take without being told a name
}

std::string warning(const std::string& path, ChatFormat format) {
  const bool gemma3 = format == ChatFormat::kGemma3;
  const ChatTokens turn = chat_tokens(format);
  std::ostringstream out;
  out << path << ": this chat template is not one of Gemma " << (gemma3 ? 3 : 4) << " (no " << turn.begin << " and "
      << turn.end << " in it). Bezel runs no template and renders the Gemma " << (gemma3 ? 3 : 4) << " format; say "
      << (gemma3 ? "chat_format: gemma3" : "chat_format: edge or chat_format: large") << " if that is what you want";
  return out.str();
}

}  // namespace

std::string foreign_template_warning(const std::string& folder, ChatFormat format) {
  const ChatTokens turn = chat_tokens(format);
  if (io::is_gguf_path(folder)) {
    const auto file = io::GgufFile::open(folder);
    const io::GgufValue* text = file->get("tokenizer.chat_template");
    return text == nullptr || has_turns(text->text(), turn) ? "" : warning(folder, format);
  }
  const auto in_folder = [&](const char* name) { return (fs::path(folder) / name).string(); };
  const std::string jinja = in_folder("chat_template.jinja");
  if (io::is_there(jinja)) return is_known_file(jinja, turn) ? "" : warning(jinja, format);
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string path = in_folder(name);
    if (!io::is_there(path)) continue;
    const io::Json json = io::read_json_file(path);
    if (const auto value = io::JsonView(json, path).find("chat_template"))
      return is_known_value(*value, turn) ? "" : warning(path, format);
  }
  return "";
}

}  // namespace bezel::data
