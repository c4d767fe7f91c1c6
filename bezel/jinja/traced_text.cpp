#include "bezel/jinja/traced_text.h"

#include <algorithm>

namespace bezel::jinja {

void TracedText::append(std::string_view text, Origin origin) {
  if (text.empty()) return;
  bytes_ += text;
  if (!runs_.empty() && runs_.back().origin == origin) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), origin});
  }
}

std::size_t TracedText::run_at(std::size_t at) const {
  const auto run = std::upper_bound(runs_.begin(), runs_.end(), at,
                                    [](std::size_t offset, const Run& candidate) { return offset < candidate.end; });
  return static_cast<std::size_t>(run - runs_.begin());
}

void TracedText::append(const TracedText& text, std::size_t begin, std::size_t end) {
  for (std::size_t i = text.run_at(begin); begin < end; ++i) {
    const std::size_t run_end = std::min(end, text.runs_[i].end);
    append(std::string_view(text.bytes_).substr(begin, run_end - begin), text.runs_[i].origin);
    begin = run_end;
  }
}

TracedText TracedText::substr(std::size_t begin, std::size_t end) const {
  TracedText out;
  out.append(*this, begin, end);
  return out;
}

Origin TracedText::origin_at(std::size_t at) const { return at < size() ? runs_[run_at(at)].origin : Origin(); }

void TracedText::mark_response() {
  for (Run& run : runs_) run.origin.response = true;
}

void TracedText::mark_generation() {
  for (Run& run : runs_) run.origin.generation = true;
}

}  // namespace bezel::jinja
