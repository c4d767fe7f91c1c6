#include "bezel/data/tokenizer_gguf.h"

#include <algorithm>
#include <functional>
#include <tuple>

#include "bezel/data/utf8.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::GgufValue;

constexpr std::size_t kMaxWordBytes = 256;  // the longest of Gemma's has 93; splits of a word take its square in time
constexpr std::size_t kMaxWords = 1 << 24;
constexpr std::string_view kBlank = "▁";

/// tokenizer.ggml.token_type
enum WordType : std::int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

class Reader {
 public:
  explicit Reader(const io::GgufFile& file) : file_(file), types_(at("token_type").wholes(kNormal, kByte)) {}

  TokenizerSpec read() {
    read_words();
    spec_.model_words = spec_.words.size();
    const std::string model = at("model").text();
    if (model == "llama")
      merges_from_scores();
    else if (model == "gemma4")
      merges_from_list();
    else
      at("model").fail("'llama' or 'gemma4', as Gemma's files have it");
    read_fallback();
    read_ends();
    if (const GgufValue* blank = find("add_space_prefix"); model == "llama" && (blank == nullptr || blank->boolean()))
      throw Error(file_.path(),
                  ": key 'tokenizer.ggml.add_space_prefix': expected false; Gemma's texts get no blank "
                  "in front");
    spec_.normalizer = {{" ", std::string(kBlank)}};
    spec_.decoder = {{std::string(kBlank), " "}};
    return std::move(spec_);
  }

 private:
  static std::string key(std::string_view name) { return std::string("tokenizer.ggml.").append(name); }
  const GgufValue& at(std::string_view name) const { return file_.at(key(name)); }
  const GgufValue* find(std::string_view name) const { return file_.get(key(name)); }

  void read_words();
  void merges_from_scores();
  void merges_from_list();
  void read_fallback();
  void read_ends();
  std::int32_t word_id(std::string_view name) const {
    return static_cast<std::int32_t>(at(name).whole(0, static_cast<std::int64_t>(spec_.words.size()) - 1));
  }

  const io::GgufFile& file_;
  std::vector<std::int64_t> types_;
  TokenizerSpec spec_;
};

void Reader::read_words() {
  const GgufValue& tokens = at("tokens");
  const std::vector<std::string_view> texts = tokens.texts();
  if (texts.empty() || texts.size() > kMaxWords) tokens.fail("1 to 2^24 words");
  if (types_.size() != texts.size())
    at("token_type").fail("one type for each of the " + std::to_string(texts.size()) + " words");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() > kMaxWordBytes || find_invalid_utf8(texts[i]) != std::string_view::npos)
      throw Error(file_.path(), ": key '", tokens.key(), "': word ", i, " is longer than ", kMaxWordBytes,
                  " bytes or no UTF-8");
    std::string word(texts[i]);
    // Conversion writes the runs of blanks among the user-defined words as blanks.
    if (types_[i] == kUserDefined) word = Replace{" ", std::string(kBlank)}.apply(word, kBlank.size() * word.size());
    if (!spec_.words.add(word))
      throw Error(file_.path(), ": key '", tokens.key(), "': word ", i, " is also word ", spec_.words.find(word));
    const bool special = types_[i] == kControl || types_[i] == kUnknown;
    if ((special || types_[i] == kUserDefined) && !word.empty())
      spec_.added.push_back({word, static_cast<std::int32_t>(i), special, false});
  }
}

/// Every way to cut a word in two words is a merge, the higher the word's score the earlier. Reference: transformers'
/// generate_merges.
void Reader::merges_from_scores() {
  struct Cut {
    float score;
    std::int32_t left_characters, right_characters;
    BpeMerge merge;
  };
  const GgufValue& key = at("scores");
  const std::vector<float> scores = key.floats();
  if (scores.size() != types_.size()) key.fail("one score for each of the " + std::to_string(types_.size()) + " words");
  std::vector<Cut> cuts;
  for (std::size_t i = 0; i < types_.size(); ++i) {
    if (types_[i] != kNormal && types_[i] != kUserDefined) continue;
    const std::string_view word = spec_.words.word(i);
    const float score = types_[i] == kUserDefined ? 0.0f : scores[i];
    std::int32_t characters = 0;
    for (std::size_t at = 0; at < word.size(); at += utf8_length(word[at])) ++characters;
    std::int32_t before = 0;
    for (std::size_t at = 0; at < word.size(); at += utf8_length(word[at]), ++before) {
      const std::int32_t left = at == 0 ? -1 : spec_.words.find(word.substr(0, at));
      const std::int32_t right = left < 0 ? -1 : spec_.words.find(word.substr(at));
      if (right >= 0) cuts.push_back({score, before, characters - before, {left, right, static_cast<std::int32_t>(i)}});
    }
  }
  std::ranges::stable_sort(cuts, std::greater<>(), [](const Cut& cut) {
    return std::tuple(cut.score, cut.left_characters, cut.right_characters);
  });
  spec_.merges.reserve(cuts.size());
  for (const Cut& cut : cuts) spec_.merges.push_back(cut.merge);
}

void Reader::merges_from_list() {
  const GgufValue& key = at("merges");
  const std::vector<std::string_view> lines = key.texts();
  const auto fail = [&](std::size_t rank, std::string_view what) {
    throw Error(file_.path(), ": key '", key.key(), "', entry ", rank, ": ", what);
  };
  spec_.merges.reserve(lines.size());
  for (std::size_t rank = 0; rank < lines.size(); ++rank) {
    const std::size_t blank = lines[rank].find(' ');
    if (blank == std::string_view::npos || lines[rank].find(' ', blank + 1) != std::string_view::npos)
      fail(rank, "expected two words with a blank between them");
    const std::string_view left = lines[rank].substr(0, blank), right = lines[rank].substr(blank + 1);
    const BpeMerge merge{spec_.words.find(left), spec_.words.find(right),
                         spec_.words.find(std::string(left).append(right))};
    if (std::min({merge.left, merge.right, merge.merged}) < 0)
      fail(rank, "a part, or the two together, is no word of tokenizer.ggml.tokens");
    spec_.merges.push_back(merge);
  }
}

void Reader::read_fallback() {
  spec_.fallback.fuse_unknown = true;
  if (find("unknown_token_id") != nullptr) spec_.fallback.unknown_id = word_id("unknown_token_id");
  spec_.fallback.use_bytes = std::ranges::count(types_, static_cast<std::int64_t>(kByte)) > 0;
  if (spec_.fallback.use_bytes)
    fill_byte_ids(spec_, file_.path(), key("tokens"));
  else if (spec_.fallback.unknown_id < 0)
    throw Error(file_.path(), ": key '", key("unknown_token_id"), "' is missing, and no words stand for bytes");
}

void Reader::read_ends() {
  const auto says = [&](std::string_view name, bool fallback) {
    const GgufValue* value = find(name);
    return value == nullptr ? fallback : value->boolean();
  };
  if (says("add_bos_token", true)) spec_.prefix.push_back(word_id("bos_token_id"));
  if (says("add_eos_token", false)) spec_.suffix.push_back(word_id("eos_token_id"));
}

}  // namespace

TokenizerSpec read_gguf_tokenizer(const io::GgufFile& file) { return Reader(file).read(); }

}  // namespace bezel::data
