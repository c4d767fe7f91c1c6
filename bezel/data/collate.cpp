#include <algorithm>
#include <numeric>

#include <ATen/ATen.h>

#include "bezel/data/dataset.h"
#include "bezel/data/shared_prefix.h"
#include "bezel/error.h"
#include "bezel/input/sample_key.h"

namespace bezel::data {
namespace {

using Ids = std::vector<std::int64_t>;

torch::Tensor tensor_of(const Ids& values) { return at::tensor(values, at::kLong); }

// The lists that a batch needs on the host before it becomes tensors.
struct Rows {
  Ids ids, types, is_real, keys, segment_start, label_flat_index, label_ids, placeholder_rows;
};

void pad(Rows& rows, std::size_t end, std::int64_t pad_id) {
  rows.ids.resize(end, pad_id);
  rows.types.resize(end, 0);
  rows.is_real.resize(end, 0);
  rows.keys.resize(end, 0);
}

// Each item must find its soft tokens' placeholders, of its kind and side by side with those of no other.
void check_media(const Sample& sample) {
  std::vector<std::int64_t> expected, found;
  for (const Media& item : sample.media)
    expected.insert(expected.end(), static_cast<std::size_t>(item.num_soft_tokens),
                    input::kMediaWords[item.kind].token_type);
  std::ranges::copy_if(sample.token_types, std::back_inserter(found), [](std::int64_t type) { return type != 0; });
  if (found == expected) return;
  const auto count = [](const std::vector<std::int64_t>& types, MediaKind kind) {
    return std::ranges::count(types, input::kMediaWords[kind].token_type);
  };
  for (const MediaKind kind : input::kMediaKinds)
    if (count(found, kind) != count(expected, kind))
      throw Error("sample of line ", sample.line, ": ", count(found, kind), " ", input::kMediaWords[kind].part,
                  " placeholder tokens, but media of ", count(expected, kind), " soft tokens");
  throw Error("sample of line ", sample.line, ": its media are not in the order of their placeholders");
}

// `items` are of `sample`.
void add_media(const Sample& sample, std::span<const Media> items, std::vector<Media>& media) {
  for (const Media& item : items) {
    media.push_back(item);
    media.back().key = input::media_key(sample.key, static_cast<std::uint64_t>(&item - sample.media.data()));
  }
}

Batch batch_of(const Rows& rows, std::int64_t num_rows) {
  Batch batch;
  batch.input_ids = tensor_of(rows.ids).view({num_rows, -1});
  batch.mm_token_type_ids = tensor_of(rows.types).view({num_rows, -1});
  batch.row_keys = tensor_of(rows.keys).view({num_rows, -1});
  batch.attention_mask = tensor_of(rows.is_real).view({num_rows, -1}).to(torch::kBool);
  batch.label_flat_index = tensor_of(rows.label_flat_index);
  batch.label_ids = tensor_of(rows.label_ids);
  batch.index_labels();
  batch.placeholder_rows = tensor_of(rows.placeholder_rows);
  batch.soft_rows = batch.placeholder_rows;  // a sample has no placeholder without media
  batch.num_tokens = std::accumulate(rows.is_real.begin(), rows.is_real.end(), std::int64_t{0});
  batch.has_padding = batch.num_tokens != batch.input_ids.numel();
  return batch;
}

void check_samples(std::span<const Sample> samples) {
  if (samples.empty()) throw Error("a batch needs at least one sample");
  for (const Sample& sample : samples) check_media(sample);
}

Batch batch_of(std::span<const Sample> samples, const Rows& rows, std::int64_t num_rows) {
  check_samples(samples);
  Batch batch = batch_of(rows, num_rows);
  for (const Sample& sample : samples) add_media(sample, sample.media, batch.media);
  return batch;
}

// The items of media whose soft tokens are in `segment`, which holds all tokens of each.
std::span<const Media> media_of(const Sample& sample, const Segment& segment) {
  const auto soft_tokens = [&](std::size_t begin, std::size_t end) {
    return std::count_if(sample.token_types.begin() + static_cast<std::ptrdiff_t>(begin),
                         sample.token_types.begin() + static_cast<std::ptrdiff_t>(end),
                         [](std::int64_t type) { return type != 0; });
  };
  const auto skip = [&](std::size_t item, std::int64_t tokens) {
    while (tokens > 0) tokens -= sample.media[item++].num_soft_tokens;
    return item;
  };
  const std::size_t first = skip(0, soft_tokens(0, segment.begin));
  return std::span(sample.media).subspan(first, skip(first, soft_tokens(segment.begin, segment.end)) - first);
}

void add_segment(const Sample& sample, const Segment& segment, Rows& rows) {
  for (std::size_t t = segment.begin; t < segment.end; ++t) {
    if (sample.token_types[t] != 0) rows.placeholder_rows.push_back(static_cast<std::int64_t>(rows.ids.size()));
    rows.ids.push_back(sample.input_ids[t]);
    rows.types.push_back(sample.token_types[t]);
    rows.keys.push_back(static_cast<std::int64_t>(sample.key + t));
  }
  rows.is_real.resize(rows.ids.size(), 1);
  rows.segment_start.resize(rows.ids.size(), static_cast<std::int64_t>(segment.row_begin));
}

// The labels that positions of `segment` predict.
void add_labels(const Sample& sample, const Segment& segment, Rows& rows) {
  for (std::size_t t = segment.begin; t < std::min(segment.end, sample.labels.size() - 1); ++t) {
    if (sample.labels[t + 1] == kIgnoreLabel) continue;
    rows.label_flat_index.push_back(static_cast<std::int64_t>(segment.row_begin + t - segment.begin));
    rows.label_ids.push_back(sample.labels[t + 1]);
  }
}

void add_sample(const Sample& sample, Rows& rows) {
  const Segment whole{.end = sample.input_ids.size(), .row_begin = rows.ids.size()};
  add_segment(sample, whole, rows);
  add_labels(sample, whole, rows);
}

void set_prefixes(const SegmentTree& tree, Batch& batch) {
  std::size_t depth = 0;
  for (const Segment& segment : tree.segments) depth = std::max(depth, segment.prefixes.size());
  if (depth == 0) return;
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(depth), 1, batch.input_ids.size(1)};
  batch.prefix_begin = at::zeros(shape, at::kLong);
  batch.prefix_end = at::zeros(shape, at::kLong);
  for (const Segment& segment : tree.segments)
    for (std::size_t i = 0; i < segment.prefixes.size(); ++i) {
      const Segment& prefix = tree.segments[segment.prefixes[i]];
      const auto fill = [&](const torch::Tensor& bounds, std::size_t value) {
        bounds[static_cast<std::int64_t>(i)][0]
            .narrow(0, static_cast<std::int64_t>(segment.row_begin), static_cast<std::int64_t>(segment.size()))
            .fill_(static_cast<std::int64_t>(value));
      };
      fill(batch.prefix_begin, prefix.row_begin);
      fill(batch.prefix_end, prefix.row_begin + prefix.size());
    }
}

// splitmix64: a counter hashed well enough for shuffling, and the same everywhere, which std::shuffle is not.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

}  // namespace

Batch collate(std::span<const Sample> samples, std::int64_t pad_id) {
  std::size_t length = 0;
  for (const Sample& sample : samples) length = std::max(length, sample.input_ids.size());
  Rows rows;
  for (std::size_t b = 0; b < samples.size(); ++b) {
    add_sample(samples[b], rows);
    pad(rows, (b + 1) * length, pad_id);
  }
  return batch_of(samples, rows, static_cast<std::int64_t>(samples.size()));
}

Batch collate_packed(std::span<const Sample> samples) {
  Rows rows;
  for (const Sample& sample : samples) add_sample(sample, rows);
  Batch batch = batch_of(samples, rows, 1);
  if (samples.size() > 1) batch.segment_start = tensor_of(rows.segment_start).view({1, -1});
  return batch;
}

Batch collate_shared(std::span<const Sample> samples, std::size_t least_shared) {
  check_samples(samples);
  const SegmentTree tree = share_prefixes(samples, least_shared);
  Rows rows;
  std::vector<Media> media;
  for (const Segment& segment : tree.segments) {
    const Sample& sample = samples[segment.sample];
    add_segment(sample, segment, rows);
    add_media(sample, media_of(sample, segment), media);
  }
  for (std::size_t i = 0; i < samples.size(); ++i)
    for (const std::size_t number : tree.paths[i]) add_labels(samples[i], tree.segments[number], rows);
  Batch batch = batch_of(rows, 1);
  batch.media = std::move(media);
  if (tree.segments.size() > 1) batch.segment_start = tensor_of(rows.segment_start).view({1, -1});
  set_prefixes(tree, batch);
  batch.num_tokens = 0;
  for (const Sample& sample : samples) batch.num_tokens += static_cast<std::int64_t>(sample.input_ids.size());
  return batch;
}

std::vector<std::size_t> epoch_order(std::size_t size, std::uint64_t seed, std::uint64_t epoch) {
  std::vector<std::size_t> order(size);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::uint64_t state = seed;
  state = next_random(state) ^ epoch;
  for (std::size_t i = size; i > 1; --i) std::swap(order[i - 1], order[next_random(state) % i]);
  return order;
}

}  // namespace bezel::data
