#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "bezel/io/json.h"
#include "bezel/jinja/runtime.h"
#include "bezel/jinja/traced_text.h"

namespace bezel::jinja {

struct Statement;

/// What a template is rendered with.
struct Context {
  const io::Json* variables = nullptr;  ///< an object; its member `messages` gives text its origins
  Limits limits{};
  std::function<std::tm()> now{};  ///< for strftime_now; local time where it is empty
};

/// A chat template in the language of jinja2, in the environment that transformers gives it. It reads no file, runs no
/// code but its own, and ends within the limits. Safe to share between threads.
class Template {
 public:
  /// Throws Error with `name` and a line when `source` is not a template, or uses what is not supported.
  static Template parse(std::string_view source, const std::string& name);

  /// Throws Error with the template's name and a line when the template fails, refuses the chat or takes too long.
  TracedText render(const Context& context) const;

  const std::string& name() const { return name_; }
  /// Whether it has {% generation %}.
  bool has_generation() const { return has_generation_; }

 private:
  Template() = default;

  std::string name_;
  std::shared_ptr<const std::vector<std::unique_ptr<Statement>>> body_;
  bool has_generation_ = false;
};

/// Whether a message of this role holds what a tool answered.
bool is_tool_role(std::string_view role);

}  // namespace bezel::jinja
