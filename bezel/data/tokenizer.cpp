#include "bezel/data/tokenizer.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "bezel/data/new_tokens.h"
#include "bezel/data/tokenizer_gguf.h"
#include "bezel/data/utf8.h"
#include "bezel/error.h"
#include "bezel/io/gguf_model.h"

namespace bezel::data {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;  // offsets are 32 bits wide and a normalizer may treble it

// What all the steps of a normalizer or decoder together may make of a text. Gemma's trebles blanks.
std::size_t max_replaced_bytes(std::size_t text_bytes) { return 16 * text_bytes + 4096; }

// The byte that a token such as "<0x0A>" represents, or -1.
int byte_of(std::string_view word) {
  if (word.size() != 6 || word.substr(0, 3) != "<0x" || word[5] != '>') return -1;
  if (!std::isxdigit(static_cast<unsigned char>(word[3])) || !std::isxdigit(static_cast<unsigned char>(word[4])))
    return -1;
  return static_cast<int>(std::stoul(std::string(word.substr(3, 2)), nullptr, 16));
}

void flush_bytes(std::string& bytes, std::string& out) {
  if (find_invalid_utf8(bytes) == std::string_view::npos) {
    out += bytes;
  } else {
    for (std::size_t i = 0; i < bytes.size(); ++i) out += "\xEF\xBF\xBD";
  }
  bytes.clear();
}

}  // namespace

Tokenizer::Tokenizer(TokenizerSpec spec)
    : spec_(std::move(spec)), bpe_(spec_.words, spec_.merges, spec_.fallback), is_special_(spec_.words.size(), false) {
  spec_.merges = {};
  for (const AddedToken& token : spec_.added) {
    if (token.normalized) {
      normalized_added_.add(normalize(token.content), token.id);
    } else {
      raw_added_.add(token.content, token.id);
    }
    is_special_[static_cast<std::size_t>(token.id)] = token.special;
  }
}

Tokenizer Tokenizer::from_file(const std::string& path) { return from_json(read_tokenizer_file(path), path); }

Tokenizer Tokenizer::from_json(std::string_view text, std::string_view source) {
  return Tokenizer(parse_tokenizer(text, source));
}

Tokenizer Tokenizer::from_gguf(const io::GgufFile& file) { return Tokenizer(read_gguf_tokenizer(file)); }

Tokenizer Tokenizer::of_model(const std::string& model, std::span<const AddedToken> more) {
  const std::string path = (std::filesystem::path(model) / "tokenizer.json").string();
  TokenizerSpec spec = io::is_gguf_path(model) ? read_gguf_tokenizer(*io::GgufFile::open(model))
                                               : parse_tokenizer(read_tokenizer_file(path), path);
  add_tokens(spec, more);
  return Tokenizer(std::move(spec));
}

std::string Tokenizer::normalize(std::string_view text) const {
  std::string out(text);
  for (const Replace& step : spec_.normalizer) out = step.apply(out, max_replaced_bytes(text.size()));
  return out;
}

Tokenizer::Encoding Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  if (const auto bad = find_invalid_utf8(text); bad != std::string_view::npos)
    throw Error("text to tokenize: byte ", bad, " is not UTF-8");
  if (text.size() > kMaxTextBytes)
    throw Error("text to tokenize: ", text.size(), " bytes, at most ", kMaxTextBytes, " are taken at once");
  Encoding out;
  const auto push = [&](std::int32_t id, std::size_t begin, std::size_t end) {
    out.ids.push_back(id);
    out.begin_bytes.push_back(begin);
    out.end_bytes.push_back(end);
  };
  if (add_special_tokens)
    for (const std::int32_t id : spec_.prefix) push(id, 0, 0);
  for (std::size_t at = 0; at < text.size();) {
    const auto match = raw_added_.find(text, at);
    if (match.begin > at) encode_piece(text.substr(at, match.begin - at), at, out);
    if (match.id >= 0) push(match.id, match.begin, match.end);
    at = match.end;
  }
  if (add_special_tokens)
    for (const std::int32_t id : spec_.suffix) push(id, text.size(), text.size());
  return out;
}

void Tokenizer::encode_piece(std::string_view piece, std::size_t offset, Encoding& out) const {
  std::string normal;
  std::vector<std::vector<std::size_t>> edits(spec_.normalizer.size());
  for (std::size_t i = 0; i < spec_.normalizer.size(); ++i) {
    const std::string_view before = i == 0 ? piece : std::string_view(normal);
    normal = spec_.normalizer[i].apply(before, max_replaced_bytes(piece.size()), &edits[i]);
  }
  std::vector<BpeToken> tokens;
  encode_normalized(spec_.normalizer.empty() ? piece : std::string_view(normal), tokens);
  std::vector<std::size_t> begins(tokens.size()), ends(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    begins[i] = tokens[i].begin;
    ends[i] = tokens[i].end;
  }
  for (std::size_t step = spec_.normalizer.size(); step-- > 0;) {
    OffsetMap begin_map(spec_.normalizer[step], edits[step]);
    OffsetMap end_map(spec_.normalizer[step], edits[step]);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      begins[i] = begin_map.begin(begins[i]);
      ends[i] = end_map.end(ends[i]);
    }
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    out.ids.push_back(tokens[i].id);
    out.begin_bytes.push_back(offset + begins[i]);
    out.end_bytes.push_back(offset + ends[i]);
  }
}

void Tokenizer::encode_normalized(std::string_view piece, std::vector<BpeToken>& out) const {
  if (normalized_added_.empty()) return encode_split(piece, 0, 0, out);
  for (std::size_t at = 0; at < piece.size();) {
    const auto match = normalized_added_.find(piece, at);
    if (match.begin > at) encode_split(piece.substr(at, match.begin - at), 0, at, out);
    if (match.id >= 0)
      out.push_back({match.id, static_cast<std::uint32_t>(match.begin), static_cast<std::uint32_t>(match.end)});
    at = match.end;
  }
}

// Cuts behind each occurrence of the split's string; an occurrence right after another one is a piece of its own.
void Tokenizer::encode_split(std::string_view piece, std::size_t split_idx, std::size_t offset,
                             std::vector<BpeToken>& out) const {
  if (split_idx == spec_.splits.size()) {
    const std::size_t first = out.size();
    bpe_.encode(piece, out);
    for (std::size_t i = first; i < out.size(); ++i) {
      out[i].begin += static_cast<std::uint32_t>(offset);
      out[i].end += static_cast<std::uint32_t>(offset);
    }
    return;
  }
  const std::string& pattern = spec_.splits[split_idx];
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t hit = piece.find(pattern, at);
    const std::size_t end = hit == std::string_view::npos ? piece.size() : hit + pattern.size();
    encode_split(piece.substr(at, end - at), split_idx + 1, offset + at, out);
    at = end;
  }
}

std::string Tokenizer::decode(std::span<const std::int64_t> ids, bool skip_special_tokens) const {
  std::string out, bytes;
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= vocab_size())
      throw Error("token id ", id, " is not in the vocabulary of ", vocab_size(), " tokens");
    if (skip_special_tokens && is_special_[static_cast<std::size_t>(id)]) continue;
    std::string word(spec_.words.word(static_cast<std::size_t>(id)));
    const std::size_t most = max_replaced_bytes(word.size());
    for (const Replace& step : spec_.decoder) word = step.apply(word, most);
    if (const int byte = byte_of(word); byte >= 0) {
      bytes += static_cast<char>(byte);
      continue;
    }
    flush_bytes(bytes, out);
    out += word;
  }
  flush_bytes(bytes, out);
  return out;
}

std::string Tokenizer::word(std::int64_t id) const {
  if (id < 0 || id >= vocab_size()) return "";
  return std::string(spec_.words.word(static_cast<std::size_t>(id)));
}

std::optional<std::int64_t> Tokenizer::token_id(std::string_view token) const {
  const std::int32_t id = spec_.words.find(token);
  return id < 0 ? std::nullopt : std::optional<std::int64_t>(id);
}

}  // namespace bezel::data
