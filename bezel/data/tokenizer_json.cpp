#include "bezel/data/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <sys/stat.h>

#include "bezel/data/tokenizer_sax.h"
#include "bezel/data/utf8.h"
#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/placeholder_file.h"

namespace bezel::data {
namespace {

using io::JsonView;

// Far beyond what any tokenizer has. A chain of replacements multiplies, and special tokens are put around every text.
constexpr std::size_t kMaxSteps = 16;
constexpr std::size_t kMaxSpecial = 64;
constexpr std::size_t kMaxTokenBytes = 1024;
constexpr std::int64_t kMaxFileBytes = std::int64_t{256} << 20;

template <typename Item>
void push_bounded(std::vector<Item>& list, Item item, std::size_t most, const JsonView& at) {
  if (list.size() >= most) at.fail("at most " + std::to_string(most) + " of its kind");
  list.push_back(std::move(item));
}

[[noreturn]] void unknown_component(const JsonView& at, std::string_view what, std::string_view known) {
  throw Error(at.source(), ": key '", at.key(), "': ", what, " '", at.at("type").text(), "' is not known; Bezel reads ",
              known);
}

Replace read_replace(const JsonView& step) {
  const JsonView pattern = step.at("pattern");
  const auto literal = pattern.find("String");
  if (!literal) pattern.fail("{\"String\": ...}; regular expressions are not read");
  Replace out{literal->text(), step.at("content").text()};
  if (out.pattern.empty()) literal->fail("a string that is not empty");
  return out;
}

void read_normalizer(const JsonView& step, std::vector<Replace>& out) {
  const std::string type = step.at("type").text();
  if (type == "Sequence") {
    for (const JsonView& inner : step.at("normalizers").elements()) read_normalizer(inner, out);
  } else if (type == "Replace") {
    push_bounded(out, read_replace(step), kMaxSteps, step);
  } else {
    unknown_component(step, "normalizer", "Replace and Sequence");
  }
}

void read_pre_tokenizer(const JsonView& step, std::vector<std::string>& out) {
  const std::string type = step.at("type").text();
  if (type == "Sequence") {
    for (const JsonView& inner : step.at("pretokenizers").elements()) read_pre_tokenizer(inner, out);
    return;
  }
  if (type != "Split") unknown_component(step, "pre_tokenizer", "Split and Sequence");
  const auto pattern = step.at("pattern").find("String");
  if (!pattern) step.at("pattern").fail("{\"String\": ...}; regular expressions are not read");
  if (step.at("behavior").text() != "MergedWithPrevious") step.at("behavior").fail("\"MergedWithPrevious\"");
  if (const auto invert = step.find("invert"); invert && invert->boolean()) invert->fail("false");
  push_bounded(out, pattern->text(), kMaxSteps, step);
  if (out.back().empty()) pattern->fail("a string that is not empty");
}

void read_decoder(const JsonView& decoder, std::vector<Replace>& out) {
  constexpr std::string_view kKnown = "Sequence[Replace ..., ByteFallback, Fuse]";
  if (decoder.at("type").text() != "Sequence") unknown_component(decoder, "decoder", kKnown);
  int stage = 0;  // 0 Replace, 1 ByteFallback seen, 2 Fuse seen
  for (const JsonView& step : decoder.at("decoders").elements()) {
    const std::string type = step.at("type").text();
    if (type == "Replace" && stage == 0) {
      push_bounded(out, read_replace(step), kMaxSteps, step);
    } else if (type == "ByteFallback" && stage == 0) {
      stage = 1;
    } else if (type == "Fuse" && stage == 1) {
      stage = 2;
    } else {
      unknown_component(step, "here decoder", kKnown);
    }
  }
  if (stage != 2) decoder.at("decoders").fail(kKnown);
}

std::int32_t read_id(const JsonView& value) { return static_cast<std::int32_t>(value.whole(0, 0x7FFFFFFF)); }

void append_special(const JsonView& specials, const JsonView& name, const TokenizerSpec& spec,
                    std::vector<std::int32_t>& out) {
  for (const JsonView& id : specials.at(name.text()).at("ids").elements()) {
    push_bounded(out, read_id(id), kMaxSpecial, id);
    if (static_cast<std::size_t>(out.back()) >= spec.words.size()) id.fail("an id of the vocabulary");
  }
}

void read_post_processor(const JsonView& step, TokenizerSpec& spec) {
  if (step.at("type").text() != "TemplateProcessing") unknown_component(step, "post_processor", "TemplateProcessing");
  bool seen_text = false;
  for (const JsonView& item : step.at("single").elements()) {
    if (const auto special = item.find("SpecialToken")) {
      append_special(step.at("special_tokens"), special->at("id"), spec, seen_text ? spec.suffix : spec.prefix);
    } else if (const auto text = item.find("Sequence"); text && !seen_text) {
      seen_text = true;
    } else {
      item.fail("a SpecialToken, or the Sequence once");
    }
  }
  if (!seen_text) step.at("single").fail("a template with the Sequence in it");
}

void read_words(const TokenizerDocument& document, std::string_view source, Vocabulary& words) {
  std::vector<const TokenizerDocument::Word*> by_id(document.vocab.size(), nullptr);
  std::size_t bytes = 0;
  for (const auto& word : document.vocab) {
    const auto id = static_cast<std::size_t>(word.id);
    if (id >= by_id.size())
      throw Error(source, ": key 'model.vocab': '", document.slice(word.begin, word.end), "' has id ", id, ", but ",
                  by_id.size(), " words must have the ids 0 to ", by_id.size() - 1, " without holes");
    if (by_id[id] != nullptr)
      throw Error(source, ": key 'model.vocab': id ", id, " belongs to both '",
                  document.slice(by_id[id]->begin, by_id[id]->end), "' and '", document.slice(word.begin, word.end),
                  "'");
    by_id[id] = &word;
    bytes += word.end - word.begin;
  }
  words.reserve(by_id.size() + 64, bytes + 1024);
  for (const auto* word : by_id)
    if (!words.add(document.slice(word->begin, word->end)))
      throw Error(source, ": key 'model.vocab': '", document.slice(word->begin, word->end), "' appears twice");
}

std::int32_t known_word(const Vocabulary& words, std::string_view word, std::size_t rank, std::string_view source) {
  const std::int32_t id = words.find(word);
  if (id < 0) throw Error(source, ": key 'model.merges', entry ", rank, ": '", word, "' is not in model.vocab");
  return id;
}

void read_merges(const TokenizerDocument& document, std::string_view source, TokenizerSpec& spec) {
  std::size_t begin = document.merges_begin;
  spec.merges.reserve(document.merge_ends.size() / 2);
  for (std::size_t i = 0; i + 1 < document.merge_ends.size(); i += 2) {
    const std::size_t middle = document.merge_ends[i];
    const std::size_t end = document.merge_ends[i + 1];
    const std::size_t rank = i / 2;
    spec.merges.push_back({known_word(spec.words, document.slice(begin, middle), rank, source),
                           known_word(spec.words, document.slice(middle, end), rank, source),
                           known_word(spec.words, document.slice(begin, end), rank, source)});
    begin = end;
  }
}

void read_fallback(const JsonView& model, TokenizerSpec& spec) {
  const auto flag = [&](std::string_view name) {
    const auto value = model.find(name);
    return value && value->boolean();
  };
  BpeFallback& out = spec.fallback;
  out.fuse_unknown = flag("fuse_unk");
  out.use_bytes = flag("byte_fallback");
  if (const auto unknown = model.find("unk_token")) {
    out.unknown_id = spec.words.find(unknown->text());
    if (out.unknown_id < 0) unknown->fail("a word of model.vocab");
  }
  if (!out.use_bytes) {
    if (out.unknown_id < 0) model.fail("byte_fallback or unk_token");
    return;
  }
  fill_byte_ids(spec, model.source(), "model.vocab");
}

void check_model(const JsonView& model, const TokenizerDocument& document) {
  if (model.at("type").text() != "BPE") unknown_component(model, "model", "BPE");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const auto value = model.find(name); value && !value->text().empty()) value->fail("null");
  if (const auto value = model.find("ignore_merges"); value && value->boolean()) value->fail("false");
  if (const auto value = model.find("dropout"); value && value->number() != 0.0) value->fail("null");
  if (!document.has_vocab || document.vocab.empty())
    throw Error(model.source(), ": key 'model.vocab' is missing or empty");
  if (!document.has_merges) throw Error(model.source(), ": key 'model.merges' is missing");
}

AddedToken read_added(const JsonView& item) {
  const auto flag = [&](std::string_view name) {
    const auto value = item.find(name);
    return value && value->boolean();
  };
  for (const char* name : {"single_word", "lstrip", "rstrip"})
    if (flag(name)) item.at(name).fail("false");
  AddedToken out{item.at("content").text(), read_id(item.at("id")), flag("special"), flag("normalized")};
  if (out.content.empty() || out.content.size() > kMaxTokenBytes)
    item.at("content").fail("a string of 1 to " + std::to_string(kMaxTokenBytes) + " bytes");
  return out;
}

void add_listed_tokens(const JsonView& list, TokenizerSpec& spec) {
  spec.added = read_added_tokens(list);
  std::vector<const AddedToken*> by_id;
  for (const AddedToken& token : spec.added) by_id.push_back(&token);
  std::sort(by_id.begin(), by_id.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  for (std::size_t i = 0; i < by_id.size(); ++i) {
    const AddedToken& token = *by_id[i];
    const auto id = static_cast<std::size_t>(token.id);
    if (i > 0 && by_id[i - 1]->id == token.id)
      throw Error(list.source(), ": key 'added_tokens': id ", id, " appears twice");
    if (id > spec.words.size())
      throw Error(list.source(), ": key 'added_tokens': '", token.content, "' has id ", id, ", but the id before it, ",
                  spec.words.size(), ", belongs to no word");
    const bool fits = id == spec.words.size() ? spec.words.add(token.content) : spec.words.word(id) == token.content;
    if (!fits)
      throw Error(list.source(), ": key 'added_tokens': '", token.content, "' has id ", id, ", but model.vocab says ",
                  spec.words.find(token.content) >= 0 ? "another id" : "another word for it");
  }
}

}  // namespace

std::string read_tokenizer_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) throw Error(ErrorKind::kIo, path, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw Error(path, ": not a regular file");
  if (info.st_size > kMaxFileBytes)
    throw Error(path, ": ", info.st_size, " bytes, at most ", kMaxFileBytes, " are read as a tokenizer");
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size())))
    throw Error(ErrorKind::kIo, path, ": could not be read");
  io::refuse_placeholder(path, text);
  return text;
}

std::vector<AddedToken> read_added_tokens(const JsonView& list) {
  std::vector<AddedToken> added;
  for (const JsonView& item : list.elements()) added.push_back(read_added(item));
  return added;
}

void fill_byte_ids(TokenizerSpec& spec, std::string_view source, std::string_view key) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const std::string name = std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">";
    spec.fallback.byte_ids[byte] = spec.words.find(name);
    if (spec.fallback.byte_ids[byte] < 0)
      throw Error(source, ": key '", key, "': '", name, "' is missing, but byte_fallback needs all 256 bytes");
  }
}

TokenizerSpec parse_tokenizer(std::string_view text, std::string_view source) {
  const TokenizerDocument document = read_tokenizer_document(text, source);
  const JsonView root(document.rest, std::string(source));
  TokenizerSpec spec;
  check_model(root.at("model"), document);
  read_words(document, source, spec.words);
  spec.model_words = spec.words.size();
  read_merges(document, source, spec);
  read_fallback(root.at("model"), spec);
  if (const auto added = root.find("added_tokens")) add_listed_tokens(*added, spec);
  if (const auto step = root.find("normalizer")) read_normalizer(*step, spec.normalizer);
  if (const auto step = root.find("pre_tokenizer")) read_pre_tokenizer(*step, spec.splits);
  if (const auto step = root.find("post_processor")) read_post_processor(*step, spec);
  read_decoder(root.at("decoder"), spec.decoder);
  return spec;
}

}  // namespace bezel::data
