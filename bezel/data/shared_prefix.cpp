#include "bezel/data/shared_prefix.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>

namespace bezel::data {
namespace {

bool same_tensor(const torch::Tensor& a, const torch::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.is_same(b)) return true;
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

bool same_media(const Media& a, const Media& b) {
  return a.kind == b.kind && a.num_soft_tokens == b.num_soft_tokens && same_tensor(a.features, b.features) &&
         same_tensor(a.layout, b.layout) && same_tensor(a.soft_index, b.soft_index);
}

// The label that position `t` predicts.
std::int64_t predicted(const Sample& sample, std::size_t t) {
  return t + 1 < sample.labels.size() ? sample.labels[t + 1] : kIgnoreLabel;
}

// Whether a position may predict both: each sample takes its own labels from a shared one, and ORPO has the prompt's of
// one answer alone.
bool go_together(std::int64_t a, std::int64_t b) { return a == b || a == kIgnoreLabel || b == kIgnoreLabel; }

// Tokens, types and labels alone.
std::size_t common_tokens(const Sample& a, const Sample& b, std::size_t from) {
  const std::size_t most = std::min(a.input_ids.size(), b.input_ids.size());
  std::size_t t = from;
  while (t < most && a.input_ids[t] == b.input_ids[t] && a.token_types[t] == b.token_types[t] &&
         go_together(predicted(a, t), predicted(b, t)))
    ++t;
  return t;
}

bool is_soft(const Sample& sample, std::size_t t) {
  return t < sample.token_types.size() && sample.token_types[t] != 0;
}

// `end` or the first soft token before it that belongs to other media; the samples' tokens are alike up to `end`.
std::size_t common_media(const Sample& a, const Sample& b, std::size_t from, std::size_t end) {
  std::size_t item = 0;
  std::int64_t left = 0;  // soft tokens of the item
  for (std::size_t t = 0; t < end; ++t) {
    if (!is_soft(a, t)) continue;
    if (left == 0) {
      if (item >= a.media.size() || item >= b.media.size()) return t;
      if (t >= from && !same_media(a.media[item], b.media[item])) return t;
      left = a.media[item++].num_soft_tokens;
    }
    --left;
  }
  return end;
}

// Builds a SegmentTree.
class TreeBuilder {
 public:
  TreeBuilder(std::span<const Sample> samples, std::size_t least_shared)
      : samples_(samples), least_shared_(least_shared) {
    tree_.paths.resize(samples.size());
  }

  SegmentTree build() {
    std::vector<std::size_t> all(samples_.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    pack_group(std::move(all), 0, {});
    return std::move(tree_);
  }

 private:
  // Packs what samples `group` have behind `begin`, up to which they are alike and consist of `prefixes`.
  void pack_group(std::vector<std::size_t> group, std::size_t begin, const std::vector<std::size_t>& prefixes) {
    while (!group.empty()) {
      const std::size_t first = group.front();
      std::vector<std::size_t> common;  // of each of the group with the first
      for (const std::size_t sample : group)
        common.push_back(sample == first ? samples_[first].input_ids.size()
                                         : common_prefix(samples_[first], samples_[sample], begin));
      std::vector<std::size_t> of_others(common.begin() + 1, common.end());
      std::ranges::sort(of_others, std::greater());
      const std::size_t end = best_end(of_others, begin, kMostPrefixes - prefixes.size()).end;
      if (end == begin) {
        add_segment(first, begin, samples_[first].input_ids.size(), prefixes, {&first, 1});
        group.erase(group.begin());
        continue;
      }
      std::vector<std::size_t> alike, others;
      for (std::size_t i = 0; i < group.size(); ++i) (common[i] >= end ? alike : others).push_back(group[i]);
      std::vector<std::size_t> longer = prefixes;
      longer.push_back(add_segment(first, begin, end, prefixes, alike));
      pack_group(std::move(alike), end, longer);
      group = std::move(others);
    }
  }

  // Where a segment should end, and what it saves with those behind it in the same samples.
  struct Choice {
    std::size_t end = 0;
    std::size_t saved = 0;  // tokens
  };

  // Of `common`, in descending order, what samples have in common with the first of their group; at most `levels`
  // segments. Saves 0 where no segment pays off.
  Choice best_end(std::span<const std::size_t> common, std::size_t begin, std::size_t levels) const {
    Choice best{begin, 0};
    if (levels == 0) return best;
    std::size_t longer = 0;  // samples that have more in common
    for (std::size_t i = 0; i < common.size() && common[i] >= begin + least_shared_; ++i) {
      if (i + 1 < common.size() && common[i + 1] == common[i]) continue;
      const std::size_t saved =
          (i + 1) * (common[i] - begin) + best_end(common.first(longer), common[i], levels - 1).saved;
      if (saved > best.saved) best = {common[i], saved};
      longer = i + 1;
    }
    return best;
  }

  std::size_t add_segment(std::size_t sample, std::size_t begin, std::size_t end,
                          const std::vector<std::size_t>& prefixes, std::span<const std::size_t> samples) {
    if (begin == end) return 0;  // a sample that is nothing but its prefix
    const std::size_t row_begin = tree_.num_tokens(), number = tree_.segments.size();
    tree_.segments.push_back(
        {.sample = sample, .begin = begin, .end = end, .row_begin = row_begin, .prefixes = prefixes});
    for (const std::size_t one : samples) tree_.paths[one].push_back(number);
    return number;
  }

  std::span<const Sample> samples_;
  std::size_t least_shared_;
  SegmentTree tree_;
};

}  // namespace

std::size_t common_prefix(const Sample& a, const Sample& b, std::size_t from) {
  std::size_t end = common_media(a, b, from, common_tokens(a, b, from));
  const auto cuts_media = [&](const Sample& sample) { return is_soft(sample, end - 1) && is_soft(sample, end); };
  while (end > from && (cuts_media(a) || cuts_media(b))) --end;
  return end;
}

void join_equal_media(std::span<Sample> samples) {
  std::vector<Media> distinct;
  for (Sample& sample : samples)
    for (Media& item : sample.media) {
      const auto found = std::ranges::find_if(distinct, [&](const Media& other) { return same_media(item, other); });
      if (found != distinct.end())
        item = *found;
      else
        distinct.push_back(item);
    }
}

SegmentTree share_prefixes(std::span<const Sample> samples, std::size_t least_shared) {
  return TreeBuilder(samples, std::max<std::size_t>(1, least_shared)).build();
}

}  // namespace bezel::data
