#include "bezel/data/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <set>

#include "bezel/data/sentencepiece.h"
#include "bezel/data/tokenizer_json.h"
#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;
using io::JsonView;

constexpr float kScore = -1000.0f;  // of every word: merges decide, not scores

enum WordType : std::int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// What llama.cpp's chat parser has to see, so that it is written out although it is special.
constexpr std::array<std::string_view, 7> kVisible = {
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"};

// Names in tokenizer_config.json and config.json, and in the file.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kRoles = {{{"bos", "bos"},
                                                                                  {"eos", "eos"},
                                                                                  {"unk", "unknown"},
                                                                                  {"sep", "seperator"},
                                                                                  {"pad", "padding"},
                                                                                  {"cls", "cls"},
                                                                                  {"mask", "mask"}}};

std::string ggml_key(std::string_view name) { return std::string("tokenizer.ggml.").append(name); }

bool is_byte_word(std::string_view word) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); };
  return word.size() == 6 && word.starts_with("<0x") && word.back() == '>' && is_hex(word[3]) && is_hex(word[4]);
}

/// A token of tokenizer_config.json: its text, or an object with it.
std::string token_text(const JsonView& value) {
  return value.is_object() ? value.at("content").text() : value.is_string() ? value.text() : "";
}

/// The JSON file of that name in `folder`, an empty object where there is none.
struct SmallFile {
  SmallFile(const std::string& folder, const char* name) : path((fs::path(folder) / name).string()) {
    there = io::is_there(path);
    if (there) json = io::read_json_file(path);
  }
  JsonView view() const { return JsonView(json, path); }

  std::string path;
  io::Json json = io::Json::object();
  bool there = false;
};

/// Texts of the tokens that tokenizer_config.json has a role for.
std::set<std::string> special_words(const JsonView& config) {
  std::set<std::string> words;
  for (const auto& [name, value] : config.members()) {
    if (name.ends_with("_token") && (value.is_string() || value.is_object())) words.insert(token_text(value));
    if (name != "extra_special_tokens" && name != "additional_special_tokens") continue;
    if (value.is_object())
      for (const auto& [role, token] : value.members()) words.insert(token_text(token));
    else if (value.is_array())
      for (const JsonView& token : value.elements()) words.insert(token_text(token));
  }
  return words;
}

WordType type_of(std::string_view word, bool added, const std::set<std::string>& special) {
  if (std::ranges::find(kVisible, word) != kVisible.end()) return kUserDefined;
  const bool control = special.contains(std::string(word));
  if (added) return control ? kControl : kUserDefined;
  return is_byte_word(word) ? kByte : control ? kControl : kNormal;
}

/// The lists of words, one entry for each row of the embeddings.
struct Words {
  explicit Words(std::int64_t num_rows, float unused_score)
      : scores(static_cast<std::size_t>(num_rows), unused_score), types(scores.size(), kUnused) {
    for (std::size_t id = 0; id < scores.size(); ++id) texts.push_back("[PAD" + std::to_string(id) + "]");
  }

  void set(std::size_t id, std::string_view text, float score, std::int32_t type) {
    texts[id] = text;
    scores[id] = score;
    types[id] = type;
  }
  void put(io::NewGgufKeys& keys) const {
    keys.set(ggml_key("tokens"), texts);
    keys.set(ggml_key("scores"), scores);
    keys.set(ggml_key("token_type"), types);
  }

  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
};

void check_rows(std::size_t num_words, std::int64_t num_rows, const std::string& path) {
  if (static_cast<std::int64_t>(num_words) > num_rows)
    throw Error(path, ": has ", num_words, " words, but the embeddings have ", num_rows,
                " rows; tokenizer and weights are of different models");
}

void set_words(const TokenizerSpec& spec, const JsonView& config, std::int64_t num_rows, io::NewGgufKeys& keys) {
  const std::set<std::string> special = special_words(config);
  Words words(num_rows, kScore);
  for (std::size_t id = 0; id < spec.words.size(); ++id) {
    const std::string_view word = spec.words.word(id);
    words.set(id, word, kScore, type_of(word, id >= spec.model_words, special));
  }
  words.put(keys);
}

bool looks_special(std::string_view word) {
  return word == "<pad>" || word == "<mask>" || (word.starts_with("<|") && word.ends_with("|>")) ||
         (word.starts_with("<unused") && word.ends_with(">"));
}

/// Added tokens as tokenizer_config.json lists them, or where it does not, tokenizer.json.
std::vector<AddedToken> added_tokens(const TokenizerSpec& spec, const JsonView& config) {
  const auto decoder = config.find("added_tokens_decoder");
  if (!decoder) return spec.added;
  std::vector<AddedToken> added;
  for (const auto& [id, token] : decoder->members()) {
    std::int32_t number = -1;
    std::from_chars(id.data(), id.data() + id.size(), number);
    if (number < 0) token.fail("a whole number as its key");
    const auto special = token.find("special");
    added.push_back({token.at("content").text(), number, special && special->boolean(), false});
  }
  return added;
}

/// Words with scores, as Gemma 3 has them in tokenizer.model.
void set_scored_words(const std::string& path, const std::vector<AddedToken>& added, std::int64_t num_rows,
                      io::NewGgufKeys& keys) {
  constexpr float kUnusedScore = -10000.0f;
  if (!io::is_there(path))
    throw Error(path,
                ": missing; a GGUF file of Gemma 3 needs the scores of its words, which only tokenizer.model has");
  const std::vector<SentencePiece> pieces = parse_sentencepiece(io::read_text_file(path), path);
  check_rows(pieces.size(), num_rows, path);
  Words words(num_rows, kUnusedScore);
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    const bool plain = pieces[id].type == SentencePiece::Type::kUserDefined;  // its added token says so below
    words.set(id, pieces[id].text, pieces[id].score, plain ? kNormal : static_cast<std::int32_t>(pieces[id].type));
  }
  for (const AddedToken& token : added) {
    check_rows(static_cast<std::size_t>(token.id) + 1, num_rows, path);
    const bool control = token.special || looks_special(token.content);
    const Replace to_blanks{"▁", " "};
    words.set(static_cast<std::size_t>(token.id),
              control ? token.content : to_blanks.apply(token.content, token.content.size()), kScore,
              control ? kControl : kUserDefined);
  }
  words.put(keys);
}

// A blank parts the two words of a merge, so one inside becomes the letter that byte-level tokenizers have for it.
std::string without_blanks(std::string_view word) {
  return Replace{" ", "Ġ"}.apply(std::string(word), 2 * word.size());
}

void set_merges(const TokenizerSpec& spec, io::NewGgufKeys& keys) {
  std::vector<std::string> merges;
  for (const BpeMerge& merge : spec.merges)
    merges.push_back(without_blanks(spec.words.word(static_cast<std::size_t>(merge.left))) + " " +
                     without_blanks(spec.words.word(static_cast<std::size_t>(merge.right))));
  keys.set(ggml_key("merges"), merges);
}

/// The id of a role: that of the added token which tokenizer_config.json names, else a number in config.json.
std::int64_t role_id(const TokenizerSpec& spec, const JsonView& tokens, const JsonView& config, std::string_view role) {
  if (const auto token = tokens.find(std::string(role) + "_token"); token && (token->is_string() || token->is_object()))
    if (const auto added = std::ranges::find(spec.added, token_text(*token), &AddedToken::content);
        added != spec.added.end())
      return added->id;
  const std::string name = std::string(role) + "_token_id";
  auto id = config.find(name);
  if (const auto text = config.find("text_config"); !id && text) id = text->find(name);
  return id && id->value().is_number_unsigned() ? id->whole() : -1;
}

void set_roles(const TokenizerSpec& spec, const JsonView& tokens, const JsonView& config, io::NewGgufKeys& keys) {
  for (const auto& [role, name] : kRoles)
    if (const std::int64_t id = role_id(spec, tokens, config, role); id >= 0)
      keys.set(ggml_key(std::string(name) + "_token_id"), static_cast<std::uint32_t>(id));
  for (const auto& [name, added] : {std::pair{"add_bos_token", &spec.prefix}, {"add_eos_token", &spec.suffix}}) {
    const auto flag = tokens.find(name);
    if (flag || !added->empty()) keys.set(ggml_key(name), flag ? flag->boolean() : true);
  }
}

/// One template, or a list of {name, template}.
void set_templates(const JsonView& value, io::NewGgufKeys& keys) {
  constexpr const char* kKey = "tokenizer.chat_template";
  if (!value.is_array()) return keys.set(kKey, value.text());
  std::vector<std::string> names;
  for (const JsonView& item : value.elements()) {
    const std::string name = item.at("name").text();
    std::string key(kKey);
    if (name != "default") key.append(".").append(name);
    keys.set(key, item.at("template").text());
    if (name != "default") names.push_back(name);
  }
  if (!names.empty()) keys.set("tokenizer.chat_templates", names);
}

void set_chat_template(const std::string& folder, const JsonView& tokens, io::NewGgufKeys& keys) {
  if (const auto value = tokens.find("chat_template")) return set_templates(*value, keys);
  if (const std::string path = (fs::path(folder) / "chat_template.jinja").string(); io::is_there(path))
    return keys.set("tokenizer.chat_template", io::read_text_file(path));
  const SmallFile file(folder, "chat_template.json");
  if (const auto value = file.view().find("chat_template")) set_templates(*value, keys);
}

}  // namespace

void set_gguf_tokenizer(const std::string& folder, gemma4::Family family, std::int64_t num_rows,
                        io::NewGgufKeys& keys) {
  const std::string path = (fs::path(folder) / "tokenizer.json").string();
  const TokenizerSpec spec = parse_tokenizer(io::read_text_file(path), path);
  check_rows(spec.words.size(), num_rows, path);
  const SmallFile tokens(folder, "tokenizer_config.json"), config(folder, "config.json");
  const bool scored = family == gemma4::Family::kGemma3;
  keys.set(ggml_key("model"), scored ? "llama" : "gemma4");
  if (scored) {
    keys.set(ggml_key("pre"), "default");
    set_scored_words((fs::path(folder) / "tokenizer.model").string(), added_tokens(spec, tokens.view()), num_rows,
                     keys);
  } else {
    set_words(spec, tokens.view(), num_rows, keys);
    set_merges(spec, keys);
  }
  set_roles(spec, tokens.view(), config.view(), keys);
  set_chat_template(folder, tokens.view(), keys);
  keys.set(ggml_key("add_space_prefix"), false);
  if (!scored) keys.set(ggml_key("add_bos_token"), true);
}

}  // namespace bezel::data
