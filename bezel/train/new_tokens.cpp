#include "bezel/train/new_tokens.h"

#include <algorithm>
#include <set>

#include "bezel/data/new_tokens.h"
#include "bezel/data/tokenizer.h"
#include "bezel/error.h"
#include "bezel/io/gguf_model.h"

namespace bezel::train {
namespace {

constexpr std::size_t kMaxTokenBytes = 1024;  // of those that a tokenizer.json may hold

struct Asked {
  const char* key;
  const std::vector<std::string>& contents;
  bool special;
};

template <typename... Parts>
[[noreturn]] void refuse(std::string_view key, const Parts&... parts) {
  throw Error(ErrorKind::kConfig, key, ": ", parts...);
}

bool is_called(const std::string& name, std::string_view module) {
  return name == module || name.ends_with("." + std::string(module));
}

bool is_whole(const lora::LoraConfig& config, std::string_view module) {
  return std::ranges::any_of(config.modules_to_save, [&](const std::string& name) { return is_called(name, module); });
}

void check_content(const Asked& asked, const std::string& content, std::set<std::string>& seen) {
  if (content.empty() || content.size() > kMaxTokenBytes)
    refuse(asked.key, "got a token of ", content.size(), " bytes, expected 1 to ", kMaxTokenBytes);
  if (!seen.insert(content).second) refuse(asked.key, "'", content, "' is given twice");
}

// Tokens of both keys that `base` lacks, by id.
std::vector<data::AddedToken> tokens_to_add(const TrainConfig& config, const data::Tokenizer& base) {
  std::vector<data::AddedToken> tokens;
  std::set<std::string> seen;
  auto next = static_cast<std::int32_t>(base.vocab_size());
  for (const Asked& asked :
       {Asked{"add_tokens", config.add_tokens, false}, Asked{"add_special_tokens", config.add_special_tokens, true}}) {
    for (const std::string& content : asked.contents) {
      check_content(asked, content, seen);
      if (data::is_added(base.added(), content)) continue;
      if (const auto word = base.token_id(content))
        refuse(asked.key, "'", content, "' is a word of the vocabulary already, with id ", *word,
               ": leave it out, and name the id in trainable_token_indices if its row should be trained");
      // As add_tokens of transformers has it: special ones are found before a text is normalized.
      tokens.push_back({content, next++, asked.special, /*normalized=*/!asked.special});
    }
  }
  return tokens;
}

void add_ids(lora::LoraConfig& config, std::string_view module, std::span<const data::AddedToken> tokens) {
  auto& all = config.trainable_token_indices;
  auto found = std::ranges::find_if(all, [&](const auto& item) { return is_called(item.first, module); });
  if (found == all.end()) found = all.insert(all.end(), {std::string(module), {}});
  for (const data::AddedToken& token : tokens)
    if (std::ranges::find(found->second, token.id) == found->second.end()) found->second.push_back(token.id);
}

// Rows that nothing trains would be saved nowhere.
void train_rows(TrainConfig& config, bool tied) {
  lora::LoraConfig& lora = config.lora;
  const bool embeddings = is_whole(lora, "embed_tokens"), head = is_whole(lora, "lm_head");
  if (tied && embeddings != head)
    refuse("modules_to_save", "names ", embeddings ? "embed_tokens" : "lm_head", " alone beside add_tokens: rows of ",
           embeddings ? "the head" : "the embeddings", ", which is tied to it, would stay as they began; write ",
           "[embed_tokens, lm_head], or leave both out, and the new rows alone are trained");
  if (!embeddings) add_ids(lora, "embed_tokens", config.new_tokens);
  const bool named = std::ranges::any_of(lora.trainable_token_indices,
                                         [](const auto& item) { return is_called(item.first, "lm_head"); });
  if (!head && (!tied || named)) add_ids(lora, "lm_head", config.new_tokens);
}

std::string note_of(const TrainConfig& config, const gemma4::ModelConfig& model) {
  const std::int64_t count = static_cast<std::int64_t>(config.new_tokens.size()), first = config.new_tokens.front().id,
                     rows = data::num_ids(config.new_tokens);
  std::string note = std::to_string(count) + (count == 1 ? " new token with the id " : " new tokens with ids from ") +
                     std::to_string(first) + (count == 1 ? "" : " on");
  const std::int64_t grown = rows - model.text.vocab_size;
  if (grown > 0)
    note += ": the embeddings get " + std::to_string(grown) +
            (grown == 1 ? " row, which begins" : " rows, which begin") + " as the mean of the others";
  else
    note += ", for which the embeddings have rows already";
  note += is_whole(config.lora, "embed_tokens") ? "; modules_to_save trains them"
                                                : "; they are trained beside LoRA (trainable_token_indices)";
  if (model.text.hidden_size_per_layer_input > 0 && rows > model.text.vocab_size_per_layer)
    note += "; the per-layer embeddings get such rows too, which nothing trains: they stay the mean";
  return note;
}

}  // namespace

void settle_new_tokens(TrainConfig& config, const std::string& adapter) {
  const bool asks = !config.add_tokens.empty() || !config.add_special_tokens.empty();
  const bool is_gguf = io::is_gguf_path(config.base_model);
  if (asks && is_gguf)
    refuse("add_tokens", "base_model ", config.base_model,
           " is a GGUF file, beside which no tokenizer.json can be written; train over the checkpoint's folder");
  if (!adapter.empty()) config.new_tokens = data::tokens_of_adapter(config.base_model, adapter);
  if (asks) {
    const auto tokens = tokens_to_add(config, data::Tokenizer::of_model(config.base_model, config.new_tokens));
    if (!adapter.empty() && !tokens.empty())
      refuse("add_tokens", "'", tokens[0].content, "' is no token of the adapter that the run starts from (", adapter,
             "), which says what is trained; leave it out, or train a new adapter");
    config.new_tokens.insert(config.new_tokens.end(), tokens.begin(), tokens.end());
    if (config.new_tokens.empty()) config.notes.emplace_back("add_tokens: the tokenizer has all of them already");
  }
  if (config.new_tokens.empty()) return;
  const gemma4::ModelConfig model = gemma4::read_model_config(gemma4::ModelFiles{config.base_model, config.mmproj});
  if (adapter.empty()) train_rows(config, model.text.tie_word_embeddings);
  config.notes.push_back(note_of(config, model));
}

gemma4::ModelFiles with_rows_for(gemma4::ModelFiles files, std::span<const data::AddedToken> tokens) {
  files.num_tokens = data::num_ids(tokens);
  return files;
}

gemma4::ModelFiles model_files(const TrainConfig& config) {
  return with_rows_for({config.base_model, config.mmproj}, config.new_tokens);
}

}  // namespace bezel::train
