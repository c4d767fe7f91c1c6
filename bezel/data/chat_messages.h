#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/io/json.h"

namespace bezel::data {

enum class Role { kSystem, kUser, kModel, kTool };

/// Keys of a message that say whether it is learnt; those named mask say the opposite.
inline constexpr std::array<std::string_view, 7> kLossKeys = {"train",  "loss", "learn", "trainable",
                                                              "weight", "mask", "masked"};

/// One entry of a list of messages.
struct ChatMessage {
  Role role;
  std::size_t idx;
  io::JsonView json;

  /// Whether it takes part in the loss, by kLossKeys; true, false, 1, 0 and such words as texts are read. Throws Error
  /// on any other value, and when two keys disagree.
  bool is_trained() const;
  /// Throws Error naming the message by its index.
  [[noreturn]] void fail(std::string_view what) const;
};

/// Roles: system, developer, user, assistant, model, tool. Throws Error on any other, and on what is no list of
/// objects.
std::vector<ChatMessage> read_chat_messages(const io::JsonView& list);

/// Whether `message`, an object, is by the model: its role is assistant or model.
bool is_model(const io::Json& message);

/// `text` without the blanks at its ends, as Python's str.strip() takes them off.
std::string trimmed(std::string_view text);

}  // namespace bezel::data
