#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bezel/data/batch.h"
#include "bezel/data/chat_template.h"
#include "bezel/data/media.h"
#include "bezel/data/processor_config.h"
#include "bezel/data/tokenizer.h"
#include "bezel/gemma4/config.h"
#include "bezel/io/json.h"

namespace bezel::generate {

/// What a user says. Media come before the text, kind by kind, unless the text has placeholders for them.
struct Question {
  std::string text;
  input::PerKind<std::vector<std::string>> media;  ///< files
};

struct ConversationOptions {
  std::string system;                           ///< the system turn's text; empty: no system turn
  std::string chat_template;                    ///< a file in place of the checkpoint's chat template
  bool thinking = false;                        ///< the template's enable_thinking
  bool raw = false;                             ///< no chat template: <bos> and the text of the one question
  std::optional<std::int64_t> max_soft_tokens;  ///< budget of an image in place of the checkpoint's
  data::VideoChoice video;                      ///< frames of a video in place of the checkpoint's
  std::vector<data::AddedToken> new_tokens{};   ///< of an adapter, see data::tokens_of_adapter
};

/// A conversation and the prompt for its next turn.
class Conversation {
 public:
  /// Reads tokenizer and processor settings of a checkpoint `folder`. Throws Error where they do not fit the model.
  Conversation(const std::string& folder, const gemma4::ModelConfig& config, ConversationOptions options = {});

  const data::Tokenizer& tokenizer() const { return tokenizer_; }

  /// Adds a user turn and decodes its media. Throws Error, and adds nothing, on media that cannot be read, that the
  /// model has no tower for, or that placeholders in the text do not match in number.
  void ask(const Question& question);
  /// Adds what the model said; a stop token at the end is no part of it.
  void answer(std::span<const std::int64_t> tokens);
  /// Forgets all but the system turn.
  void clear();

  /// The conversation so far and the opening of the model's turn, one row, on the CPU.
  input::Batch prompt() const;

 private:
  void check_media(const Question& question) const;
  std::string text() const;

  data::Tokenizer tokenizer_;
  data::MediaSettings media_settings_;
  data::MediaTokenIds ids_;
  ConversationOptions options_;
  data::ChatFormat format_;
  std::shared_ptr<const data::CheckpointTemplate> template_;  // none: by format_
  std::int64_t pad_id_;
  gemma4::ModelConfig config_;
  input::PerKind<bool> allowed_;  // kinds that the model has an encoder for
  io::Json messages_ = io::Json::array();
  input::PerKind<std::vector<data::LoadedMedia>> media_;
};

}  // namespace bezel::generate
