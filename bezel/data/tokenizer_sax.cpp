#include "bezel/data/tokenizer_sax.h"

#include "bezel/error.h"

namespace bezel::data {
namespace {

using io::Json;

constexpr std::size_t kMaxBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxMembers = 4096;

// A document of half a million merges would take seconds as nodes, so the two tables go straight into flat lists.
class TokenizerReader {
 public:
  explicit TokenizerReader(std::string_view source) : source_(source) {}

  TokenizerDocument take() {
    if (table_merges_text_.empty()) return std::move(out_);
    out_.merges_begin = out_.text.size();
    for (std::size_t& end : out_.merge_ends) end += out_.merges_begin;
    out_.text += table_merges_text_;
    return std::move(out_);
  }

  bool null() { return add(nullptr, "null"); }
  bool boolean(bool v) { return add(v, "true or false"); }
  bool number_integer(std::int64_t v) {
    if (in_vocab()) bad_id(std::to_string(v));
    return add(v, "a number");
  }
  bool number_unsigned(std::uint64_t v) {
    if (!in_vocab()) return add(v, "a number");
    if (v > 0x7FFFFFFF) bad_id(std::to_string(v));
    out_.vocab.back().id = static_cast<std::int64_t>(v);
    return true;
  }
  bool number_float(double v, const std::string& text) {
    if (in_vocab()) bad_id(text);
    return add(v, "a number");
  }
  bool binary(Json::binary_t&) { return false; }

  bool string(std::string& v) {
    if (table_ == Table::kMerges) return merge_part(v);
    if (in_vocab()) bad_id("a string");
    return add(std::move(v), "a string");
  }

  bool key(std::string& name) {
    if (in_vocab()) {
      const std::size_t begin = out_.text.size();
      out_.text += name;
      out_.vocab.push_back({begin, out_.text.size(), 0});
      return true;
    }
    // Looked through one by one, which the two tables never are.
    if (levels_.back()->size() >= kMaxMembers)
      throw Error(source_, ": an object outside of vocab with more than ", kMaxMembers, " keys");
    if (levels_.back()->contains(name)) throw Error(source_, ": key '", name, "' appears twice in one object");
    key_ = std::move(name);
    return true;
  }

  bool start_object(std::size_t) {
    if (table_ != Table::kNone) wrong_entry("an object");
    if (enters("vocab")) return enter(Table::kVocab, out_.has_vocab);
    return open(Json::object());
  }
  bool start_array(std::size_t) {
    if (in_vocab()) bad_id("an array");
    if (table_ == Table::kMerges) return start_pair();
    if (enters("merges")) return enter(Table::kMerges, out_.has_merges);
    return open(Json::array());
  }
  bool end_object() { return close(); }
  bool end_array() {
    if (table_ == Table::kMerges && in_pair_) return end_pair();
    return close();
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    std::string what = error.what();
    if (const auto start = what.find("] "); start != std::string::npos) what = what.substr(start + 2);
    throw Error(source_, ": not valid JSON at byte ", position, ": ", what);
  }

 private:
  enum class Table { kNone, kVocab, kMerges };

  bool in_vocab() const { return table_ == Table::kVocab; }

  bool enters(std::string_view name) const { return levels_.size() == 2 && path_ == "model" && key_ == name; }

  bool enter(Table table, bool& seen) {
    if (seen) throw Error(source_, ": key 'model.", key_, "' appears twice in one object");
    seen = true;
    table_ = table;
    return true;
  }

  bool merge_part(const std::string& v) {
    if (in_pair_) {
      if (++parts_ > 2) wrong_entry("an array of more than two strings");
      return push_part(v);
    }
    const auto blank = v.find(' ');
    if (blank == std::string::npos || v.find(' ', blank + 1) != std::string::npos)
      wrong_entry("the string '" + v.substr(0, 60) + "'");
    const std::string_view whole = v;
    push_part(whole.substr(0, blank));
    push_part(whole.substr(blank + 1));
    ++num_merges_;
    return true;
  }

  bool push_part(std::string_view part) {
    if (part.empty()) wrong_entry("an empty part");
    table_merges_text_ += part;
    out_.merge_ends.push_back(table_merges_text_.size());
    return true;
  }

  bool start_pair() {
    if (in_pair_) wrong_entry("an array inside an array");
    in_pair_ = true;
    parts_ = 0;
    return true;
  }

  bool end_pair() {
    if (parts_ != 2) wrong_entry("an array of " + std::to_string(parts_) + " strings");
    in_pair_ = false;
    ++num_merges_;
    return true;
  }

  bool add(Json&& value, const char* what) {
    if (in_vocab()) bad_id(what);
    if (table_ == Table::kMerges) wrong_entry(what);
    place(std::move(value));
    return true;
  }

  Json* place(Json&& value) {
    if (levels_.empty()) {
      out_.rest = std::move(value);
      return &out_.rest;
    }
    if (levels_.back()->is_array()) {
      levels_.back()->push_back(std::move(value));
      return &levels_.back()->back();
    }
    return &((*levels_.back())[key_] = std::move(value));
  }

  bool open(Json&& value) {
    if (levels_.size() >= kMaxDepth) throw Error(source_, ": nested deeper than ", kMaxDepth, " levels");
    if (levels_.size() == 1) path_ = key_;
    levels_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    if (table_ != Table::kNone) {
      table_ = Table::kNone;
      return true;
    }
    levels_.pop_back();
    return true;
  }

  [[noreturn]] void bad_id(const std::string& found) const {
    const auto& word = out_.vocab.back();
    throw Error(source_, ": key 'model.vocab': the id of '", out_.slice(word.begin, word.end), "' is ", found,
                ", expected a whole number from 0 to 2147483647");
  }

  [[noreturn]] void wrong_entry(const std::string& found) const {
    throw Error(source_, ": key 'model.", table_ == Table::kMerges ? "merges" : "vocab", "', entry ", num_merges_,
                ": got ", found, ", expected two strings, or one string with one blank");
  }

  std::string_view source_;
  TokenizerDocument out_;
  std::string table_merges_text_;
  std::vector<Json*> levels_;
  std::string key_;
  std::string path_;
  Table table_ = Table::kNone;
  bool in_pair_ = false;
  int parts_ = 0;
  std::size_t num_merges_ = 0;
};

}  // namespace

TokenizerDocument read_tokenizer_document(std::string_view text, std::string_view source) {
  if (text.size() > kMaxBytes)
    throw Error(source, ": ", text.size(), " bytes, at most ", kMaxBytes, " are read as a tokenizer");
  // The library takes a NUL byte for the end of the text, and passes over a byte order mark.
  if (text.starts_with("\xEF\xBB\xBF"))
    throw Error(source, ": starts with a UTF-8 byte order mark; save it without one");
  if (const auto nul = text.find('\0'); nul != std::string_view::npos)
    throw Error(source, ": a NUL byte at offset ", nul, ", not JSON text");
  TokenizerReader reader(source);
  Json::sax_parse(text.data(), text.data() + text.size(), &reader, Json::input_format_t::json, /*strict=*/true);
  return reader.take();
}

}  // namespace bezel::data
