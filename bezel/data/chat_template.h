#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/gemma4/config.h"
#include "bezel/io/json.h"

namespace bezel::data {

/// The two forms of the Gemma 4 template, which differ in the generation prompt only, and that of Gemma 3.
enum class ChatFormat {
  kEdge,    ///< E2B, E4B
  kLarge,   ///< 12B, 26B-A4B, 31B: an empty thought is put into the prompt when thinking is off
  kGemma3,  ///< <start_of_turn> … <end_of_turn>
};

/// The format of a checkpoint; Gemma 4 models with per-layer inputs are the small ones.
ChatFormat detect_chat_format(const gemma4::ModelConfig& model);

/// What opens a turn and what closes it.
struct ChatTokens {
  std::string_view begin, end;
};
ChatTokens chat_tokens(ChatFormat format);

/// What a generation prompt has behind "<|turn>model\n": the empty thought of large models that are not to think.
std::string_view generation_tail(ChatFormat format, bool enable_thinking);

/// `text` without the text between <|channel> and <channel|>, and without blanks around it.
std::string without_thoughts(std::string_view text);

class CheckpointTemplate;

struct ChatOptions {
  std::shared_ptr<const CheckpointTemplate> checkpoint_template{};  ///< renders in place of `format` where it is set
  io::Json template_kwargs{};                                       ///< more variables for checkpoint_template
  ChatFormat format = ChatFormat::kEdge;
  bool enable_thinking = false;
  bool add_generation_prompt = false;  ///< ends with the opening of a model turn
  bool mask_history = false;           ///< loss on the last model turn only
};

struct RenderedChat {
  std::string text{};  ///< <bos> included; one <|image|>, <|audio|> or <|video|> for each media part
  /// Byte ranges of `text` that the model should learn: its turns with the token that ends them, but no tool responses.
  /// In order.
  std::vector<std::pair<std::size_t, std::size_t>> loss_spans{};
  std::vector<std::pair<std::size_t, std::size_t>> left_out{};  ///< messages of any role with "train": false, in order
  std::string header{};       ///< of a checkpoint's template: opens a turn of the model
  std::string prompt_tail{};  ///< of a checkpoint's template: follows the header in a generation prompt
  std::string no_spans{};     ///< why a checkpoint's template gives no loss spans
};

/// Renders `messages` (an array of {role, content, ...}) with the checkpoint's chat template, or without one in the
/// options, as the released templates of `format` do. Roles: system, developer, user, assistant, model, tool. A message
/// with "train": false takes no part in the loss. `tools` may be null. Throws Error naming the message by its index on
/// an unknown role, a part of an unknown type or missing content.
RenderedChat render_chat(const io::JsonView& messages, const io::Json* tools, const ChatOptions& options = {});

}  // namespace bezel::data
