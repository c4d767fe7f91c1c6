#include "bezel/data/template_check.h"

#include <filesystem>
#include <string_view>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/mapped_file.h"
#include "bezel/io/regular_file.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxTemplateBytes = 1u << 20;  // released ones have some 20 KB

bool has_turns(std::string_view text) {
  return text.find("<|turn>") != std::string_view::npos && text.find("<turn|>") != std::string_view::npos;
}

bool is_known_file(const std::string& path) {
  const auto file = io::MappedFile::open(path);
  if (file->size_bytes() > kMaxTemplateBytes)
    throw Error(path, ": ", file->size_bytes(), " bytes, at most ", kMaxTemplateBytes, " are read as a chat template");
  return has_turns({reinterpret_cast<const char*>(file->data()), file->size_bytes()});
}

/// A template, or a list of {name, template} of which "default" is the one for chats.
bool is_known_value(const io::JsonView& value) {
  if (!value.is_array()) return has_turns(value.text());
  for (const io::JsonView& item : value.elements())
    if (item.at("name").text() == "default") return has_turns(item.at("template").text());
  return true;  // transformers, too, has none to take without being told a name
}

std::string warning(const std::string& path) {
  return path +
         ": this chat template is not one of Gemma 4 (no <|turn> and <turn|> in it). Bezel runs no template and "
         "renders "
         "the Gemma 4 format; say chat_format: edge or chat_format: large if that is what you want";
}

}  // namespace

std::string foreign_template_warning(const std::string& folder) {
  const auto in_folder = [&](const char* name) { return (fs::path(folder) / name).string(); };
  const std::string jinja = in_folder("chat_template.jinja");
  if (io::is_there(jinja)) return is_known_file(jinja) ? "" : warning(jinja);
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string path = in_folder(name);
    if (!io::is_there(path)) continue;
    const io::Json json = io::read_json_file(path);
    if (const auto value = io::JsonView(json, path).find("chat_template"))
      return is_known_value(*value) ? "" : warning(path);
  }
  return "";
}

}  // namespace bezel::data
