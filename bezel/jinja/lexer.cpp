#include "bezel/jinja/lexer.h"

#include <algorithm>
#include <utility>

#include "bezel/error.h"
#include "bezel/jinja/text.h"

namespace bezel::jinja {
namespace {

constexpr std::size_t kNoMatch = std::string::npos;

bool is_name(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

std::string with_plain_newlines(std::string_view source) {
  std::string out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : source_(with_plain_newlines(source)), name_(name) {
    for (std::size_t i = 0; i < source_.size(); advance(i)) {
      const std::size_t bytes = code_point_at(source_, i).bytes;
      if (bytes == 0) fail("the template is not UTF-8");
      i += bytes - 1;
    }
    line_ = 1;
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) read_root();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(name_, ": line ", line_, ": ", what); }

  void advance(std::size_t& i) {
    if (source_[i] == '\n') ++line_;
    ++i;
  }

  bool has(std::string_view text, std::size_t at) const {
    return at <= source_.size() && source_.compare(at, text.size(), text) == 0;
  }

  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void move_to(std::size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    if (end > at_) line_starting_ = source_[end - 1] == '\n';
    at_ = end;
  }

  // End of the tag's closing mark with the white space that it takes, or kNoMatch.
  std::size_t match_end(std::string_view mark, std::size_t at) const {
    const bool variable = mark == "}}";
    if (has("-", at) && has(mark, at + 1)) return skip_space(source_, at + 1 + mark.size());
    if (!variable && has("+", at) && has(mark, at + 1)) return at + 1 + mark.size();
    if (!has(mark, at)) return kNoMatch;
    at += mark.size();
    return !variable && has("\n", at) ? at + 1 : at;
  }

  std::size_t skip_sign(std::size_t at) const { return has("-", at) || has("+", at) ? at + 1 : at; }

  std::size_t match_raw_begin(std::size_t at) const {
    at = skip_space(source_, skip_sign(at + 2));
    if (!has("raw", at)) return kNoMatch;
    at = skip_space(source_, at + 3);
    if (has("-%}", at)) return skip_space(source_, at + 3);
    return has("%}", at) ? at + 2 : kNoMatch;
  }

  std::size_t match_raw_end(std::size_t at) const {
    at = skip_space(source_, skip_sign(at + 2));
    return has("endraw", at) ? match_end("%}", skip_space(source_, at + 6)) : kNoMatch;
  }

  // Adds the text up to the tag at `end`, without the white space that the tag takes from it.
  void add_data(std::size_t end, bool lstrip) {
    std::string_view text = std::string_view(source_).substr(at_, end - at_);
    if (has("-", end + 2)) {
      text = text.substr(0, size_without_trailing_space(text));
    } else if (lstrip && !has("+", end + 2)) {
      const std::size_t line_begin = text.rfind('\n') + 1;
      if ((line_begin > 0 || line_starting_) && skip_space(text, line_begin) == text.size())
        text = text.substr(0, line_begin);
    }
    if (!text.empty()) add(TokenKind::kData, std::string(text));
    move_to(end);
  }

  void read_root() {
    std::size_t tag = source_.find('{', at_);
    while (tag != kNoMatch && !has("{%", tag) && !has("{{", tag) && !has("{#", tag)) tag = source_.find('{', tag + 1);
    if (tag == kNoMatch) {
      add(TokenKind::kData, source_.substr(at_));
      return move_to(source_.size());
    }
    const char kind = source_[tag + 1];
    add_data(tag, kind != '{');
    const std::size_t raw = kind == '%' ? match_raw_begin(tag) : kNoMatch;
    if (raw != kNoMatch) {
      move_to(raw);
      return read_raw();
    }
    if (kind != '#') add(kind == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "");
    move_to(skip_sign(tag + 2));
    if (kind == '#') return read_comment();
    read_tag(kind == '%' ? "%}" : "}}", kind == '%' ? TokenKind::kBlockEnd : TokenKind::kVariableEnd);
  }

  void read_comment() {
    if (at_ == source_.size()) return;
    for (std::size_t i = at_; i < source_.size(); ++i) {
      if (const std::size_t end = match_end("#}", i); end != kNoMatch) return move_to(end);
    }
    fail("a comment has no end: expected '#}'");
  }

  void read_raw() {
    if (at_ == source_.size()) return;
    for (std::size_t i = source_.find("{%", at_); i != kNoMatch; i = source_.find("{%", i + 1)) {
      const std::size_t end = match_raw_end(i);
      if (end == kNoMatch) continue;
      add_data(i, true);
      return move_to(end);
    }
    fail("a raw block has no end: expected '{% endraw %}'");
  }

  void read_tag(std::string_view mark, TokenKind end_kind) {
    std::string open;
    while (at_ < source_.size()) {
      const std::size_t end = open.empty() ? match_end(mark, at_) : kNoMatch;
      if (end != kNoMatch) {
        add(end_kind, "");
        return move_to(end);
      }
      if (const std::size_t space_end = skip_space(source_, at_); space_end > at_) {
        move_to(space_end);
      } else {
        read_token(open);
      }
    }
  }

  void read_token(std::string& open) {
    const char c = source_[at_];
    if (is_digit(c)) return read_number();
    if (is_name(c)) {
      std::size_t end = at_;
      while (end < source_.size() && is_name(source_[end])) ++end;
      return take(TokenKind::kName, end);
    }
    const std::size_t quoted_end = c == '\'' || c == '"' ? string_end() : kNoMatch;
    if (quoted_end != kNoMatch) return read_string(quoted_end);
    read_operator(open);
  }

  void take(TokenKind kind, std::size_t end) {
    add(kind, source_.substr(at_, end - at_));
    move_to(end);
  }

  std::size_t string_end() const {
    for (std::size_t i = at_ + 1; i < source_.size(); ++i) {
      if (source_[i] == source_[at_]) return i;
      if (source_[i] == '\\') ++i;
    }
    return kNoMatch;
  }

  void read_string(std::size_t end) {
    try {
      add(TokenKind::kString, unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    } catch (const Error& error) {
      fail(error.what());
    }
    move_to(end + 1);
  }

  // End of digits with single '_' between them; `at` itself where no digits begin there.
  template <typename Accept>
  std::size_t digits_end(std::size_t at, Accept accept, bool leading_underscore) const {
    std::size_t end = at;
    while (end < source_.size()) {
      const bool underscore = source_[end] == '_' && (end > at || leading_underscore);
      const std::size_t digit = underscore ? end + 1 : end;
      if (digit >= source_.size() || !accept(source_[digit])) break;
      end = digit + 1;
    }
    return end;
  }

  std::size_t float_end() const {
    if (at_ > 0 && source_[at_ - 1] == '.') return kNoMatch;
    std::size_t end = digits_end(at_, is_digit, false);
    bool is_float = false;
    if (has(".", end)) {
      const std::size_t fraction = digits_end(end + 1, is_digit, false);
      is_float = fraction > end + 1;
      if (is_float) end = fraction;
    }
    if (has("e", end) || has("E", end)) {
      const std::size_t exponent = skip_sign(end + 1);
      const std::size_t exponent_end = exponent <= source_.size() ? digits_end(exponent, is_digit, false) : exponent;
      if (exponent_end > exponent) return exponent_end;
    }
    return is_float ? end : kNoMatch;
  }

  std::size_t integer_end() const {
    if (source_[at_] != '0') return digits_end(at_, is_digit, false);
    const char base = at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : ' ';
    const auto accept = [base](char c) {
      if (base == 'x') return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      return c >= '0' && c <= (base == 'b' ? '1' : '7');
    };
    if (base == 'x' || base == 'o' || base == 'b') {
      if (const std::size_t end = digits_end(at_ + 2, accept, true); end > at_ + 2) return end;
    }
    return digits_end(
        at_, [](char c) { return c == '0'; }, false);
  }

  void read_number() {
    const std::size_t float_at = float_end();
    const bool is_float = float_at != kNoMatch;
    take(is_float ? TokenKind::kFloat : TokenKind::kInteger, is_float ? float_at : integer_end());
    std::string& text = tokens_.back().text;
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
  }

  void read_operator(std::string& open) {
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (has(two, at_)) return take(TokenKind::kOperator, at_ + 2);
    }
    const char c = source_[at_];
    if (static_cast<unsigned char>(c) >= 0x80)
      fail("unexpected '" + source_.substr(at_, code_point_at(source_, at_).bytes) + "' in a tag: names are ASCII");
    if (c == '\'' || c == '"') fail(std::string("a string has no end: expected ") + c);
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos)
      fail(std::string("unexpected '") + c + "' in a tag");
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '{') open += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) fail(std::string("unexpected '") + c + "' in a tag: nothing is open");
      if (open.back() != c) fail(std::string("unexpected '") + c + "' in a tag: expected '" + open.back() + "'");
      open.pop_back();
    }
    take(TokenKind::kOperator, at_ + 1);
  }

  std::string source_;
  std::string name_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) { return Lexer(source, name).run(); }

}  // namespace bezel::jinja
