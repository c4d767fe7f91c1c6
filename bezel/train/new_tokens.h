#pragma once

#include <span>
#include <string>

#include "bezel/data/tokenizer_json.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// Settles which tokens a run adds: those that the adapter it starts from brings (a folder; "": none), and those of
/// add_tokens and add_special_tokens. Sets config.new_tokens, lets their rows of embeddings and head train beside LoRA
/// unless modules_to_save trains the tables, and tells of it in config.notes. Throws Error (kConfig) where a new row
/// would stay as it began, for a base that is a GGUF file, and for tokens that an adapter to start from does not have.
void settle_new_tokens(TrainConfig& config, const std::string& adapter);

/// The files of a config's base model, with rows for its new tokens.
gemma4::ModelFiles model_files(const TrainConfig& config);

/// The same files with rows for an adapter's tokens (data::tokens_of_adapter).
gemma4::ModelFiles with_rows_for(gemma4::ModelFiles files, std::span<const data::AddedToken> tokens);

}  // namespace bezel::train
