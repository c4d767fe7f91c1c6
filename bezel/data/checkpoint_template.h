#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "bezel/data/turn_marks.h"
#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/jinja/template.h"

namespace bezel::data {

/// The chat templates of a checkpoint and the special tokens that they are rendered with. Safe to share between
/// threads.
class CheckpointTemplate {
 public:
  /// Reads `file`, or where it is empty what `model` carries. Looks where transformers does, in that order:
  /// chat_template.jinja with additional_chat_templates/, chat_template.json, tokenizer_config.json; in a GGUF file at
  /// tokenizer.chat_template. nullptr when there is none. Throws Error when one of them is damaged or no regular file;
  /// a template of the checkpoint that does not parse is an error of choose().
  static std::shared_ptr<const CheckpointTemplate> load(const std::string& model, const std::string& file = "");

  /// The template called "tool_use" for chats with tools where there is one, else that called "default". Throws Error
  /// when there is none, and when it does not parse.
  const jinja::Template& choose(bool with_tools) const;
  /// Whether choose() gives the template of a chat without tools.
  bool is_usable() const;
  /// Whether the template's text holds `name`.
  bool mentions(const std::string& name, bool with_tools) const;
  /// bos_token, eos_token and the other special tokens that have a name.
  const io::Json& special_tokens() const { return special_tokens_; }
  /// How a template marks turns when it is rendered with `variables`; found once for each set of them.
  const TurnMarks& marks(const io::Json& variables, bool with_tools) const;

 private:
  struct Named {
    std::string source;
    std::optional<jinja::Template> parsed{};
    std::optional<Error> problem{};
  };

  CheckpointTemplate() = default;
  void add(const std::string& name, const std::string& source, const std::string& path);
  void add_value(const io::JsonView& value);
  bool read_folder(const std::string& folder);
  void read_special_tokens(const std::string& folder);
  const Named& named(bool with_tools) const;

  std::string path_;
  std::map<std::string, Named> templates_;
  io::Json special_tokens_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, TurnMarks> marks_;
};

}  // namespace bezel::data
