#include "bezel/data/replace.h"

#include "bezel/error.h"

namespace bezel::data {

std::string Replace::apply(std::string_view text, std::size_t max_bytes, std::vector<std::size_t>* edits) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  std::size_t done = 0;
  for (std::size_t hit = text.find(pattern); hit != std::string_view::npos; hit = text.find(pattern, done)) {
    if (edits != nullptr) edits->push_back(hit);
    out.append(text, done, hit - done);
    out.append(content);
    if (out.size() > max_bytes)
      throw Error("a replacement in tokenizer.json makes more than ", max_bytes, " bytes of a text of ", text.size());
    done = hit + pattern.size();
  }
  out.append(text, done);
  return out;
}

std::size_t OffsetMap::map(std::size_t at, bool is_end) {
  const std::size_t from = step_.pattern.size();
  const std::size_t to = step_.content.size();
  // Edit k begins at edits_[k] in the source and at edits_[k] + k * (to - from) in the result.
  const auto begin_of = [&](std::size_t k) { return edits_[k] + k * to - k * from; };
  while (next_ < edits_.size() && begin_of(next_) + to <= at) ++next_;
  if (next_ < edits_.size() && begin_of(next_) < at) return is_end ? edits_[next_] + from : edits_[next_];
  return at + next_ * from - next_ * to;
}

}  // namespace bezel::data
