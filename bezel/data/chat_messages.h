#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/io/json.h"

namespace bezel::data {

enum class Role { kSystem, kUser, kModel, kTool };

/// One entry of a list of messages.
struct ChatMessage {
  Role role;
  std::size_t idx;
  io::JsonView json;

  /// Whether it takes part in the loss: "train" is not false.
  bool is_trained() const;
  /// Throws Error naming the message by its index.
  [[noreturn]] void fail(std::string_view what) const;
};

/// Roles: system, developer, user, assistant, model, tool. Throws Error on any other, and on what is no list of
/// objects.
std::vector<ChatMessage> read_chat_messages(const io::JsonView& list);

/// `text` without the blanks at its ends.
std::string trimmed(std::string_view text);

}  // namespace bezel::data
