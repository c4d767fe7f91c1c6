#include "bezel/io/pattern.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace bezel::io {
namespace {

constexpr std::size_t kMaxGroups = 32;      // inside each other: std::regex compiles them recursively
constexpr std::uint64_t kMaxStates = 8192;  // matching visits each of them for each character, at most

/// Walks once over a pattern: writes it as ECMAScript, and counts what it is when its repeats are written out.
class Rewriter {
 public:
  Rewriter(const std::string& pattern, std::string_view key, ErrorKind kind)
      : pattern_(pattern), key_(key), kind_(kind) {}

  std::string run() {
    if (pattern_.size() > kMaxStates) refuse("longer than " + std::to_string(kMaxStates) + " characters");
    while (at_ < pattern_.size()) step();
    return std::move(out_);
  }

 private:
  struct Group {
    std::uint64_t states = 1;
    std::uint64_t last = 0;  // of these, what a repeat that follows would repeat
  };

  [[noreturn]] void refuse(std::string_view reason) const {
    throw Error(kind_, key_, ": regex '", std::string_view(pattern_).substr(0, 200), "': ", reason);
  }

  bool has(std::string_view word) const { return pattern_.compare(at_, word.size(), word) == 0; }

  void add_atom(std::uint64_t states) {
    Group& group = groups_.back();
    group.last = states;
    group.states += states;
    if (group.states > kMaxStates) refuse("too large with its repeats written out");
  }

  void step() {
    const char c = pattern_[at_];
    if (c == '\\') return escape();
    if (c == '[') return set();
    if (c == '{') return repeat();
    if (c == '(') return open();
    if (c == ')') return close();
    if (c != '*' && c != '+' && c != '?' && c != '|') add_atom(1);
    out_ += c;
    ++at_;
  }

  void escape() {
    const char next = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (next >= '1' && next <= '9') refuse("references to groups are not supported");
    if (next == 'A' || next == 'Z') {
      out_ += next == 'A' ? '^' : '$';
    } else {
      out_ += pattern_.substr(at_, 2);
    }
    at_ += 2;
    add_atom(1);
  }

  // Up to its "]"; one that comes first, or behind "^", belongs to the set in Python.
  void set() {
    std::size_t end = at_ + 1;
    if (end < pattern_.size() && pattern_[end] == '^') ++end;
    if (end < pattern_.size() && pattern_[end] == ']') refuse("']' at the begin of a set needs a backslash");
    for (; end < pattern_.size() && pattern_[end] != ']'; ++end)
      if (pattern_[end] == '\\') ++end;
    if (end >= pattern_.size()) refuse("a set has no end");
    out_ += pattern_.substr(at_, end + 1 - at_);
    at_ = end + 1;
    add_atom(1);
  }

  // "{2}", "{2,}" or "{2,5}".
  void repeat() {
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string::npos) refuse("a '{' has no end");
    const std::string text = pattern_.substr(at_, end + 1 - at_);
    const std::size_t comma = text.find(',');
    std::uint64_t most = number(text.substr(1, std::min(comma, text.size() - 1) - 1));
    if (comma != std::string::npos && comma + 2 < text.size())
      most = std::max(most, number(text.substr(comma + 1, text.size() - comma - 2)));
    // What is there once already stays; a repeat of a repeat multiplies.
    const std::uint64_t last = groups_.back().last;
    groups_.back().states -= last;
    add_atom(last * std::max<std::uint64_t>(most, 1));
    out_ += text;
    at_ = end + 1;
  }

  std::uint64_t number(std::string_view digits) const {
    std::uint64_t value = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stopped, error] = std::from_chars(digits.data(), end, value);
    if (error != std::errc() || stopped != end) refuse("a '{' that begins no repeat needs a backslash");
    if (value > kMaxStates) refuse("too large with its repeats written out");
    return value;
  }

  void open() {
    if (groups_.size() > kMaxGroups) refuse("more than " + std::to_string(kMaxGroups) + " groups inside each other");
    groups_.push_back({});
    out_ += '(';
    if (has("(?:") || has("(?=") || has("(?!")) {
      out_ += pattern_.substr(at_ + 1, 2);
      at_ += 3;
    } else if (has("(?P<")) {
      at_ = pattern_.find('>', at_);
      if (at_ == std::string::npos) refuse("a group name has no end");
      ++at_;
    } else if (has("(?<")) {
      refuse("look-behind is not supported");
    } else if (has("(?P=")) {
      refuse("references by name are not supported");
    } else if (has("(?")) {
      refuse("inline flags and other groups that begin with '(?' are not supported");
    } else {
      ++at_;
    }
  }

  void close() {
    if (groups_.size() == 1) refuse("a ')' closes no group");
    const std::uint64_t states = groups_.back().states;
    groups_.pop_back();
    add_atom(states);
    out_ += ')';
    ++at_;
  }

  const std::string& pattern_;
  std::string_view key_;
  ErrorKind kind_;
  std::string out_;
  std::size_t at_ = 0;
  std::vector<Group> groups_{Group{}};
};

std::regex compile(const std::string& python, std::string_view key, ErrorKind kind) {
  const std::string pattern = Rewriter(python, key, kind).run();
  try {
    // libstdc++'s other way of matching takes exponential time on patterns such as (a*)*b.
    return std::regex(pattern, std::regex::ECMAScript | std::regex::nosubs | std::regex_constants::__polynomial);
  } catch (const std::regex_error& error) {
    throw Error(kind, key, ": regex '", python, "': ", error.what());
  }
}

}  // namespace

Pattern::Pattern(const std::string& python, std::string_view key, ErrorKind kind)
    : regex_(compile(python, key, kind)) {}

bool Pattern::matches(std::string_view text) const { return std::regex_match(text.begin(), text.end(), regex_); }

bool Pattern::matches_begin(std::string_view text) const {
  return std::regex_search(text.begin(), text.end(), regex_, std::regex_constants::match_continuous);
}

}  // namespace bezel::io
