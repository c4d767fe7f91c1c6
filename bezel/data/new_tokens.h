#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/tokenizer_json.h"

/// Tokens that a run or an adapter adds to the tokenizer of a checkpoint. Reference: add_tokens of transformers'
/// tokenizers.
namespace bezel::data {

/// Whether a token of that content is among `tokens`.
bool is_added(std::span<const AddedToken> tokens, const std::string& content);

/// Adds tokens to a tokenizer: a string that it does not know gets the next id, a word of the vocabulary keeps its own
/// and is cut out of texts from now on; what is an added token already stays as it is.
void add_tokens(TokenizerSpec& spec, std::span<const AddedToken> tokens);

/// Ids beyond all of `tokens`: how many rows the embeddings need for them.
std::int64_t num_ids(std::span<const AddedToken> tokens);

/// Tokens that the tokenizer in an adapter's folder (of a checkpoint of a run, the one beside it) adds to that of
/// `model`, by id; none where one of the two has no tokenizer.json. Throws Error for ids that contradict the model's or
/// leave holes.
std::vector<AddedToken> tokens_of_adapter(const std::string& model, const std::string& adapter);

/// A tokenizer.json with `tokens` behind its added_tokens; every other byte stays. Throws Error where it is not JSON.
std::string with_added_tokens(std::string_view tokenizer_json, std::span<const AddedToken> tokens,
                              std::string_view source);

/// The files of checkpoint `folder` that list added tokens, with `tokens` among them: name -> text.
std::map<std::string, std::string> tokenizer_files(const std::string& folder, std::span<const AddedToken> tokens);

}  // namespace bezel::data
