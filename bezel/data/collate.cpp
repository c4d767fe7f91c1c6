#include <algorithm>
#include <numeric>

#include <ATen/ATen.h>

#include "bezel/data/dataset.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

using Ids = std::vector<std::int64_t>;

torch::Tensor tensor_of(const Ids& values) { return at::tensor(values, at::kLong); }

// The lists that a batch needs on the host before it becomes tensors.
struct Rows {
  Ids ids, types, label_rows, label_ids, media_rows, image_rows, audio_rows;
  std::int64_t num_real = 0;
};

void add_sample(const Sample& sample, std::int64_t length, std::int64_t pad_id, Rows& rows) {
  const auto base = static_cast<std::int64_t>(rows.ids.size());
  const std::size_t tokens = sample.input_ids.size();
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::int64_t row = base + static_cast<std::int64_t>(t);
    const std::int64_t type = sample.token_types[t];
    if (type != 0) rows.media_rows.push_back(row);
    if (type == 1) rows.image_rows.push_back(row);
    if (type == 3) rows.audio_rows.push_back(row);
    // The position before a label predicts it.
    if (t + 1 < tokens && sample.labels[t + 1] != kIgnoreLabel) {
      rows.label_rows.push_back(row);
      rows.label_ids.push_back(sample.labels[t + 1]);
    }
  }
  const auto end = static_cast<std::size_t>(base + length);
  rows.ids.insert(rows.ids.end(), sample.input_ids.begin(), sample.input_ids.end());
  rows.types.insert(rows.types.end(), sample.token_types.begin(), sample.token_types.end());
  rows.ids.resize(end, pad_id);
  rows.types.resize(end, 0);
  rows.num_real += static_cast<std::int64_t>(tokens);
}

void check_media(const Sample& sample) {
  std::int64_t image_tokens = 0, audio_tokens = 0;
  for (const ImagePatches& image : sample.images) image_tokens += image.num_soft_tokens;
  for (const AudioFrames& recording : sample.recordings) audio_tokens += recording.soft_rows.size(0);
  const auto placeholders = [&](std::int64_t type) {
    return static_cast<std::int64_t>(std::count(sample.token_types.begin(), sample.token_types.end(), type));
  };
  if (placeholders(1) != image_tokens || placeholders(3) != audio_tokens)
    throw Error("sample of line ", sample.line, ": ", placeholders(1), " image and ", placeholders(3),
                " audio placeholder tokens, but media of ", image_tokens, " and ", audio_tokens, " soft tokens");
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
  if (samples.empty()) throw Error("a batch needs at least one sample");
  std::size_t length = 0;
  for (const Sample& sample : samples) length = std::max(length, sample.input_ids.size());
  Rows rows;
  Batch batch;
  for (const Sample& sample : samples) {
    check_media(sample);
    add_sample(sample, static_cast<std::int64_t>(length), pad_id, rows);
    batch.images.insert(batch.images.end(), sample.images.begin(), sample.images.end());
    batch.recordings.insert(batch.recordings.end(), sample.recordings.begin(), sample.recordings.end());
  }
  const auto num_rows = static_cast<std::int64_t>(samples.size());
  const auto tokens = static_cast<std::int64_t>(length);
  batch.input_ids = tensor_of(rows.ids).view({num_rows, tokens});
  batch.mm_token_type_ids = tensor_of(rows.types).view({num_rows, tokens});
  batch.attention_mask = at::zeros({num_rows, tokens}, at::kBool);
  for (std::int64_t b = 0; b < num_rows; ++b)
    batch.attention_mask[b]
        .narrow(0, 0, static_cast<std::int64_t>(samples[static_cast<std::size_t>(b)].input_ids.size()))
        .fill_(true);
  batch.label_rows = tensor_of(rows.label_rows);
  batch.label_ids = tensor_of(rows.label_ids);
  batch.index_labels();
  batch.media_rows = tensor_of(rows.media_rows);
  batch.image_rows = tensor_of(rows.image_rows);
  batch.audio_rows = tensor_of(rows.audio_rows);
  batch.num_tokens = rows.num_real;
  batch.has_padding = rows.num_real != num_rows * tokens;
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
