#include "bezel/data/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <queue>

#include "bezel/data/utf8.h"

namespace bezel::data {
namespace {

constexpr std::size_t kCodePoints = 0x110000;
constexpr std::size_t kJointBits = std::size_t{1} << 22;
constexpr std::size_t kShort = 48;  // up to here a scan for the best pair beats a heap

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

std::uint64_t mixed(std::uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ key >> 32;
}

}  // namespace

Bpe::Bpe(const Vocabulary& words, const std::vector<BpeMerge>& merges, const BpeFallback& fallback)
    : char_ids_(kCodePoints, -1),
      pairs_(std::bit_ceil(2 * merges.size() + 16)),
      joints_(kJointBits / 64, 0),
      fallback_(fallback) {
  for (std::size_t id = 0; id < words.size(); ++id) {
    const std::string_view word = words.word(id);
    if (!word.empty() && utf8_length(word[0]) == word.size())
      char_ids_[utf8_code_point(word, 0)] = static_cast<std::int32_t>(id);
  }
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    add_pair(merges[rank], static_cast<std::uint32_t>(rank));
    add_joint(words, merges[rank]);
  }
}

void Bpe::add_pair(const BpeMerge& merge, std::uint32_t rank) {
  const std::uint64_t key = pair_key(merge.left, merge.right);
  std::size_t at = mixed(key) & (pairs_.size() - 1);
  while (pairs_[at].key != kNoPair && pairs_[at].key != key) at = (at + 1) & (pairs_.size() - 1);
  pairs_[at] = {key, rank, merge.merged};
}

const Bpe::Pair& Bpe::find_pair(std::int32_t left, std::int32_t right) const {
  const std::uint64_t key = pair_key(left, right);
  std::size_t at = mixed(key) & (pairs_.size() - 1);
  while (pairs_[at].key != key && pairs_[at].key != kNoPair) at = (at + 1) & (pairs_.size() - 1);
  return pairs_[at];
}

// Two characters that meet in no merge never end up in one token, so text falls apart there into pieces that can be
// merged on their own. The set is approximate: a false hit only makes a piece longer.
void Bpe::add_joint(const Vocabulary& words, const BpeMerge& merge) {
  const std::string_view left = words.word(static_cast<std::size_t>(merge.left));
  const std::string_view right = words.word(static_cast<std::size_t>(merge.right));
  const std::int32_t last = char_ids_[utf8_code_point(left, last_character(left))];
  const std::int32_t first = char_ids_[utf8_code_point(right, 0)];
  // A part may also be a whole symbol by itself: a byte or the unknown token.
  for (const std::int32_t a : {last, merge.left})
    for (const std::int32_t b : {first, merge.right}) {
      const std::uint64_t bit = mixed(pair_key(a, b)) % kJointBits;
      joints_[bit / 64] |= std::uint64_t{1} << bit % 64;
    }
}

bool Bpe::may_join(std::int32_t left, std::int32_t right) const {
  const std::uint64_t bit = mixed(pair_key(left, right)) % kJointBits;
  return (joints_[bit / 64] >> bit % 64 & 1) != 0;
}

void Bpe::split_characters(std::string_view text, std::vector<BpeToken>& out) const {
  bool after_unknown = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text[at]);
    const auto begin = static_cast<std::uint32_t>(at);
    const auto end = static_cast<std::uint32_t>(at + length);
    const std::int32_t id = char_ids_[utf8_code_point(text, at)];
    if (id >= 0) {
      out.push_back({id, begin, end});
    } else if (fallback_.use_bytes) {
      for (std::uint32_t i = begin; i < end; ++i)
        out.push_back({fallback_.byte_ids[static_cast<unsigned char>(text[i])], i, i + 1});
    } else if (after_unknown && fallback_.fuse_unknown) {
      out.back().end = end;
    } else {
      out.push_back({fallback_.unknown_id, begin, end});
    }
    after_unknown = id < 0 && !fallback_.use_bytes;
    at += length;
  }
}

void Bpe::encode(std::string_view text, std::vector<BpeToken>& out) const {
  std::size_t done = out.size();
  split_characters(text, out);
  const std::size_t total = out.size();
  for (std::size_t begin = done; begin < total;) {
    std::size_t end = begin + 1;
    while (end < total && may_join(out[end - 1].id, out[end].id)) ++end;
    BpeToken* const piece = out.data() + begin;
    const std::size_t count = end - begin;
    const std::size_t kept = count == 1 ? 1 : count <= kShort ? merge_short(piece, count) : merge_long(piece, count);
    if (done != begin) std::copy(piece, piece + kept, out.data() + done);
    done += kept;
    begin = end;
  }
  out.resize(done);
}

std::size_t Bpe::merge_short(BpeToken* tokens, std::size_t count) const {
  std::array<std::uint32_t, kShort> ranks;
  std::array<std::int32_t, kShort> merged;
  const auto look_up = [&](std::size_t i) {
    const Pair& pair = find_pair(tokens[i].id, tokens[i + 1].id);
    ranks[i] = pair.rank;
    merged[i] = pair.merged;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const auto last = ranks.begin() + static_cast<std::ptrdiff_t>(count - 1);
    const auto best = std::min_element(ranks.begin(), last);
    if (*best == kNoRank) break;
    const auto i = static_cast<std::size_t>(best - ranks.begin());
    tokens[i] = {merged[i], tokens[i].begin, tokens[i + 1].end};
    std::copy(tokens + i + 2, tokens + count, tokens + i + 1);
    std::copy(best + 1, last, best);
    std::copy(merged.begin() + static_cast<std::ptrdiff_t>(i) + 1,
              merged.begin() + static_cast<std::ptrdiff_t>(count) - 1, merged.begin() + static_cast<std::ptrdiff_t>(i));
    --count;
    if (i > 0) look_up(i - 1);
    if (i + 1 < count) look_up(i);
  }
  return count;
}

std::size_t Bpe::merge_long(BpeToken* tokens, std::size_t count) const {
  struct Candidate {
    std::uint32_t rank;
    std::uint32_t left;
    std::uint32_t right;
    std::uint64_t key;
    std::int32_t merged;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  constexpr std::uint32_t kEnd = ~std::uint32_t{0};
  std::vector<std::uint32_t> previous(count), next(count);
  std::vector<bool> gone(count, false);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto push = [&](std::uint32_t left, std::uint32_t right) {
    const Pair& pair = find_pair(tokens[left].id, tokens[right].id);
    if (pair.rank != kNoRank) queue.push({pair.rank, left, right, pair.key, pair.merged});
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? kEnd : i - 1;
    next[i] = i + 1 == count ? kEnd : i + 1;
    if (i > 0) push(i - 1, i);
  }
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const auto [rank, left, right, key, merged] = best;
    if (gone[left] || gone[right] || pair_key(tokens[left].id, tokens[right].id) != key) continue;
    tokens[left] = {merged, tokens[left].begin, tokens[right].end};
    gone[right] = true;
    next[left] = next[right];
    if (next[left] != kEnd) previous[next[left]] = left;
    if (previous[left] != kEnd) push(previous[left], left);
    if (next[left] != kEnd) push(left, next[left]);
  }
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i != kEnd; i = next[i]) tokens[kept++] = tokens[i];
  return kept;
}

}  // namespace bezel::data
