#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::jinja {

/// Provenance of text: the message that it was rendered for and whether the text is the message's own.
struct Origin {
  std::int32_t message = -1;  ///< index in the context's list of messages; -1: text of no message
  bool own = false;           ///< copied from the message, not written by the template
  bool response = false;      ///< part of a tool's answer that an assistant message holds
  bool generation = false;    ///< inside {% generation %}
  bool operator==(const Origin&) const = default;
};

/// UTF-8 text with the origin of each byte, kept as runs.
class TracedText {
 public:
  struct Run {
    std::size_t end = 0;  ///< offset behind its last byte
    Origin origin;
  };

  TracedText() = default;
  TracedText(std::string_view text, Origin origin) { append(text, origin); }

  const std::string& bytes() const { return bytes_; }
  /// In order, without empty ones; neighbors differ in origin.
  const std::vector<Run>& runs() const { return runs_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  void append(std::string_view text, Origin origin);
  void append(const TracedText& text) { append(text, 0, text.size()); }
  /// Appends bytes [begin, end) of `text`.
  void append(const TracedText& text, std::size_t begin, std::size_t end);
  TracedText substr(std::size_t begin, std::size_t end) const;
  /// Origin of the byte at `at`; the default one where there is no such byte.
  Origin origin_at(std::size_t at) const;
  void mark_generation();
  void mark_response();

 private:
  std::size_t run_at(std::size_t at) const;

  std::string bytes_;
  std::vector<Run> runs_;
};

}  // namespace bezel::jinja
