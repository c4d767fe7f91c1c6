#include "bezel/data/new_tokens.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "bezel/data/tokenizer.h"
#include "bezel/data/tokenizer_sax.h"
#include "bezel/error.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/json.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kTokenizer = "tokenizer.json";
constexpr std::string_view kBlanks = " \t\r\n";

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// Where a string of JSON that begins at `begin` has its closing quote.
std::size_t string_end(std::string_view json, std::size_t begin) {
  std::size_t at = begin + 1;
  while (at < json.size() && json[at] != '"') at += json[at] == '\\' ? 2 : 1;
  return at;
}

// The bracket that closes the list of the document's own key "added_tokens".
std::optional<std::size_t> list_end(std::string_view json) {
  int depth = 0, list_depth = -1;
  for (std::size_t at = 0; at < json.size(); ++at) {
    const char c = json[at];
    if (c == '"') {
      const std::size_t end = string_end(json, at), colon = json.find_first_not_of(kBlanks, end + 1);
      const bool is_key = depth == 1 && colon != json.npos && json[colon] == ':';
      const std::size_t value = is_key ? json.find_first_not_of(kBlanks, colon + 1) : json.npos;
      if (value != json.npos && json[value] == '[' && json.substr(at + 1, end - at - 1) == "added_tokens")
        list_depth = 2;
      at = end;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      if (depth == list_depth) return at;
      --depth;
    }
  }
  return std::nullopt;
}

Json entry(const AddedToken& token) {
  return {{"content", token.content}, {"single_word", false},           {"lstrip", false},
          {"rstrip", false},          {"normalized", token.normalized}, {"special", token.special}};
}

std::string items(std::span<const AddedToken> tokens, std::string_view source) {
  std::string text;
  for (const AddedToken& token : tokens) {
    Json item = {{"id", token.id}};
    item.update(entry(token));
    text += (text.empty() ? "\n    " : ",\n    ") + io::dump_json(item, source);
  }
  return text;
}

// Of a folder of checkpoints the tokenizer is beside them.
std::optional<fs::path> tokenizer_of(const fs::path& adapter) {
  if (is_file(adapter / kTokenizer)) return adapter / kTokenizer;
  const fs::path whole = fs::absolute(adapter).lexically_normal();
  const fs::path folder = whole.has_filename() ? whole : whole.parent_path();
  const fs::path beside = folder.parent_path() / kTokenizer;
  if (folder.filename().string().starts_with("checkpoint-") && is_file(beside)) return beside;
  return std::nullopt;
}

// Whether an adapter has rows of embeddings that are its own.
bool trains_rows(const fs::path& adapter) {
  if (!is_file(adapter / "adapter_config.json")) return false;
  const Json config = io::read_json_file((adapter / "adapter_config.json").string());
  const auto has = [&](const char* key) { return config.is_object() && config.contains(key) && !config[key].empty(); };
  return has("trainable_token_indices") || has("modules_to_save");
}

// The token where the adapter's tokenizer adds it to the base's.
bool is_new(const AddedToken& token, const Tokenizer& base, std::int64_t next, const std::string& path,
            const std::string& model) {
  const auto known = base.token_id(token.content);
  if (known == token.id) return !io::is_gguf_path(model) && !is_added(base.added(), token.content);
  if (known || token.id != next)
    throw Error(path, ": key 'added_tokens': '", token.content, "' has id ", token.id, ", but in the tokenizer of ",
                model, " it has ",
                known ? "id " + std::to_string(*known) : "none and the next one is " + std::to_string(next),
                "; is this an adapter of another base model?");
  return true;
}

}  // namespace

bool is_added(std::span<const AddedToken> tokens, const std::string& content) {
  return std::ranges::find(tokens, content, &AddedToken::content) != tokens.end();
}

void add_tokens(TokenizerSpec& spec, std::span<const AddedToken> tokens) {
  for (AddedToken token : tokens) {
    if (is_added(spec.added, token.content)) continue;
    const std::int32_t known = spec.words.find(token.content);
    token.id = known >= 0 ? known : static_cast<std::int32_t>(spec.words.size());
    if (known < 0) spec.words.add(token.content);
    spec.added.push_back(std::move(token));
  }
}

std::int64_t num_ids(std::span<const AddedToken> tokens) {
  std::int64_t count = 0;
  for (const AddedToken& token : tokens) count = std::max<std::int64_t>(count, token.id + 1);
  return count;
}

std::vector<AddedToken> tokens_of_adapter(const std::string& model, const std::string& adapter) {
  const auto path = tokenizer_of(adapter);
  const fs::path of_base = fs::path(model) / kTokenizer;
  if (!path || (!io::is_gguf_path(model) && !is_file(of_base))) return {};
  // A GGUF file may lack words that no text has, such as the placeholders of a language model's own towers.
  if (io::is_gguf_path(model) && !trains_rows(adapter)) return {};
  const std::string text = read_tokenizer_file(path->string());
  if (!io::is_gguf_path(model) && text == read_tokenizer_file(of_base.string())) return {};
  const TokenizerDocument document = read_tokenizer_document(text, path->string());
  const auto list = io::JsonView(document.rest, path->string()).find("added_tokens");
  if (!list) return {};
  std::vector<AddedToken> listed = read_added_tokens(*list), fresh;
  std::ranges::sort(listed, {}, &AddedToken::id);
  const Tokenizer base = Tokenizer::of_model(model);
  std::int64_t next = base.vocab_size();
  for (const AddedToken& token : listed) {
    if (!is_new(token, base, next, path->string(), model)) continue;
    next = std::max<std::int64_t>(next, token.id + 1);
    fresh.push_back(token);
  }
  return fresh;
}

std::string with_added_tokens(std::string_view tokenizer_json, std::span<const AddedToken> tokens,
                              std::string_view source) {
  std::string text(tokenizer_json);
  if (tokens.empty()) return text;
  const auto end = list_end(text);
  if (!end) {
    const std::size_t begin = text.find('{');
    if (begin == text.npos) throw Error(source, ": no JSON object");
    return text.insert(begin + 1, "\n  \"added_tokens\": [" + items(tokens, source) + "\n  ],");
  }
  const std::size_t last = text.find_last_not_of(kBlanks, *end - 1);
  return text.insert(last + 1, (text[last] == '[' ? "" : ",") + items(tokens, source));
}

std::map<std::string, std::string> tokenizer_files(const std::string& folder, std::span<const AddedToken> tokens) {
  std::map<std::string, std::string> files;
  if (tokens.empty()) return files;
  const auto path = [&](const char* name) { return (fs::path(folder) / name).string(); };
  files[kTokenizer] = with_added_tokens(read_tokenizer_file(path(kTokenizer)), tokens, path(kTokenizer));
  constexpr io::JsonLimits kLimits{.max_bytes = std::size_t{256} << 20};
  constexpr const char* kConfig = "tokenizer_config.json";
  if (is_file(path(kConfig))) {
    Json config = io::read_json_file(path(kConfig), kLimits);
    if (config.is_object() && config.contains("added_tokens_decoder") && config["added_tokens_decoder"].is_object()) {
      for (const AddedToken& token : tokens) config["added_tokens_decoder"][std::to_string(token.id)] = entry(token);
      files[kConfig] = config.dump(2) + "\n";
    }
  }
  constexpr const char* kAdded = "added_tokens.json";
  if (is_file(path(kAdded))) {
    Json added = io::read_json_file(path(kAdded), kLimits);
    for (const AddedToken& token : tokens) added[token.content] = token.id;
    files[kAdded] = added.dump(2) + "\n";
  }
  return files;
}

}  // namespace bezel::data
