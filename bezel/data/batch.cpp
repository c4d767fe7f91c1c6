#include "bezel/data/batch.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"

namespace bezel::data {
namespace {

using torch::Tensor;

void require(bool ok, const char* name, const char* wanted, const Tensor& found) {
  if (ok) return;
  std::ostringstream shape;
  shape << found.sizes();
  throw Error("input '", name, "': got shape ", shape.str(), ", expected ", wanted);
}

Tensor flat_positions(const Tensor& mask) { return at::nonzero(mask.flatten()).flatten(); }

/// One picture out of a padded batch: its real patches, and the soft token each is averaged into.
ImagePatches unpad_image(const Tensor& patches, const Tensor& positions, std::int64_t pooling) {
  const Tensor real = flat_positions(positions.ne(-1).all(1));
  ImagePatches image;
  image.patches = patches.index_select(0, real).contiguous();
  image.positions = positions.index_select(0, real).contiguous();
  if (real.size(0) == 0) throw Error("input 'image_position_ids': a picture without a single real patch");
  if (image.positions.min().item<std::int64_t>() < 0) throw Error("input 'image_position_ids': a negative position");
  image.max_position = image.positions.max().item<std::int64_t>();
  const std::int64_t columns = (image.positions.select(1, 0).max().item<std::int64_t>() + 1) / pooling;
  const Tensor window = at::div(image.positions, pooling, "floor");
  const Tensor token = window.select(1, 0) + columns * window.select(1, 1);  // [P]
  // Windows that no patch falls into make no soft token.
  const auto unique = at::_unique(token, /*sorted=*/true, /*return_inverse=*/true);
  image.pool_index = std::get<1>(unique);
  image.num_soft_tokens = std::get<0>(unique).size(0);
  return image;
}

AudioFrames frames_of(const Tensor& features, const Tensor& mask) {
  AudioFrames frames;
  frames.features = features.contiguous();
  frames.mask = mask.to(torch::kBool).contiguous();
  frames.soft_rows = flat_positions(frames.mask.slice(0, 0, mask.size(0), 2).slice(0, 0, (mask.size(0) + 1) / 2, 2));
  return frames;
}

void add_images(const RawInputs& raw, std::int64_t pooling, Batch& batch) {
  if (!raw.pixel_values.defined()) return;
  require(raw.pixel_values.dim() == 3, "pixel_values", "[images, patches, values]", raw.pixel_values);
  if (!raw.image_position_ids.defined()) throw Error("input 'image_position_ids' is missing beside 'pixel_values'");
  require(raw.image_position_ids.dim() == 3 && raw.image_position_ids.size(2) == 2 &&
              raw.image_position_ids.size(0) == raw.pixel_values.size(0) &&
              raw.image_position_ids.size(1) == raw.pixel_values.size(1),
          "image_position_ids", "[images, patches, 2] as in 'pixel_values'", raw.image_position_ids);
  for (std::int64_t i = 0; i < raw.pixel_values.size(0); ++i)
    batch.images.push_back(unpad_image(raw.pixel_values[i], raw.image_position_ids[i].to(torch::kLong), pooling));
}

void add_recordings(const RawInputs& raw, Batch& batch) {
  if (!raw.input_features.defined()) return;
  require(raw.input_features.dim() == 3, "input_features", "[recordings, frames, mel bins]", raw.input_features);
  if (!raw.input_features_mask.defined()) throw Error("input 'input_features_mask' is missing beside 'input_features'");
  require(raw.input_features_mask.dim() == 2 && raw.input_features_mask.size(0) == raw.input_features.size(0) &&
              raw.input_features_mask.size(1) == raw.input_features.size(1),
          "input_features_mask", "[recordings, frames] as in 'input_features'", raw.input_features_mask);
  for (std::int64_t i = 0; i < raw.input_features.size(0); ++i)
    batch.recordings.push_back(frames_of(raw.input_features[i], raw.input_features_mask[i]));
}

void add_labels(const Tensor& labels, Batch& batch) {
  const std::int64_t tokens = batch.input_ids.size(1);
  require(labels.sizes() == batch.input_ids.sizes(), "labels", "the shape of 'input_ids'", labels);
  // Position t predicts the token at t + 1; the last position of a row predicts nothing.
  Tensor next = at::constant_pad_nd(labels.to(torch::kLong).narrow(1, 1, tokens - 1), {0, 1}, kIgnoreLabel);
  const Tensor on_padding = next.ne(kIgnoreLabel).logical_and(batch.attention_mask.logical_not());
  batch.num_unpredictable = on_padding.sum().item<std::int64_t>();
  next = next.masked_fill(on_padding, kIgnoreLabel);
  batch.label_rows = flat_positions(next.ne(kIgnoreLabel));
  batch.label_ids = next.flatten().index_select(0, batch.label_rows);
  batch.index_labels();
}

// Attention sees a run of keys, so what is between real tokens is taken for real.
void check_padding(const Tensor& mask) {
  const Tensor begins =
      mask.narrow(1, 1, mask.size(1) - 1).logical_and(mask.narrow(1, 0, mask.size(1) - 1).logical_not());
  const Tensor runs = begins.sum(1) + mask.select(1, 0);  // [B]
  for (std::int64_t b = 0; b < runs.size(0); ++b)
    if (runs[b].item<std::int64_t>() > 1)
      throw Error("input 'attention_mask': row ", b, " has padding between real tokens; it may stand only at the ends");
}

void match_counts(const char* what, std::int64_t placeholders, std::int64_t soft_tokens) {
  if (placeholders != soft_tokens)
    throw Error("the text holds ", placeholders, " ", what, " placeholder tokens, but the ", what, " inputs make ",
                soft_tokens, " soft tokens");
}

// Calls `visit` with each tensor that is defined; `Given` is Batch or const Batch.
template <typename Given, typename Visit>
void visit_tensors(Given& batch, Visit visit) {
  const auto each = [&](auto&... tensors) { ((tensors.defined() ? visit(tensors) : void()), ...); };
  each(batch.input_ids, batch.attention_mask, batch.mm_token_type_ids, batch.sample_first, batch.label_rows,
       batch.label_ids, batch.label_positions, batch.label_slots, batch.media_rows, batch.image_rows, batch.audio_rows);
  for (auto& image : batch.images) each(image.patches, image.positions, image.pool_index);
  for (auto& recording : batch.recordings) each(recording.features, recording.mask, recording.soft_rows);
}

}  // namespace

Batch make_batch(const RawInputs& raw, const MediaTokenIds& ids, std::int64_t pooling) {
  if (!raw.input_ids.defined()) throw Error("input 'input_ids' is missing");
  require(raw.input_ids.dim() == 2 && raw.input_ids.size(1) > 0, "input_ids", "[rows, tokens]", raw.input_ids);
  Batch batch;
  batch.input_ids = raw.input_ids.to(torch::kLong).contiguous();
  const auto& shape = batch.input_ids.sizes();
  batch.attention_mask =
      raw.attention_mask.defined() ? raw.attention_mask.to(torch::kBool) : at::ones(shape, at::kBool);
  require(batch.attention_mask.sizes() == shape, "attention_mask", "the shape of 'input_ids'", batch.attention_mask);
  check_padding(batch.attention_mask);
  batch.num_tokens = batch.attention_mask.sum().item<std::int64_t>();
  batch.has_padding = batch.num_tokens != batch.input_ids.numel();

  const Tensor image = batch.input_ids.eq(ids.image), audio = batch.input_ids.eq(ids.audio);
  const Tensor video = batch.input_ids.eq(ids.video);
  batch.mm_token_type_ids = raw.mm_token_type_ids.defined()
                                ? raw.mm_token_type_ids.to(torch::kLong)
                                : image.to(torch::kLong) + 2 * video.to(torch::kLong) + 3 * audio.to(torch::kLong);
  require(batch.mm_token_type_ids.sizes() == shape, "mm_token_type_ids", "the shape of 'input_ids'",
          batch.mm_token_type_ids);
  batch.image_rows = flat_positions(image);
  batch.audio_rows = flat_positions(audio);
  batch.media_rows = flat_positions(image.logical_or(audio).logical_or(video));
  if (raw.labels.defined()) add_labels(raw.labels, batch);
  add_images(raw, pooling, batch);
  add_recordings(raw, batch);

  std::int64_t image_tokens = 0, audio_tokens = 0;
  for (const ImagePatches& picture : batch.images) image_tokens += picture.num_soft_tokens;
  for (const AudioFrames& recording : batch.recordings) audio_tokens += recording.soft_rows.size(0);
  match_counts("image", batch.image_rows.size(0), image_tokens);
  match_counts("audio", batch.audio_rows.size(0), audio_tokens);
  return batch;
}

RawInputs read_raw_inputs(const std::string& path) {
  const auto tensors = io::load_safetensors(path);
  RawInputs raw;
  for (const auto& [name, tensor] : {std::pair{"in.input_ids", &raw.input_ids},
                                     {"in.labels", &raw.labels},
                                     {"in.attention_mask", &raw.attention_mask},
                                     {"in.mm_token_type_ids", &raw.mm_token_type_ids},
                                     {"in.pixel_values", &raw.pixel_values},
                                     {"in.image_position_ids", &raw.image_position_ids},
                                     {"in.input_features", &raw.input_features},
                                     {"in.input_features_mask", &raw.input_features_mask}})
    if (const auto found = tensors.find(name); found != tensors.end()) *tensor = found->second;
  if (!raw.input_ids.defined()) throw Error(path, ": tensor 'in.input_ids' is missing");
  return raw;
}

void Batch::index_labels() {
  const std::int64_t num_rows = input_ids.size(0), tokens = input_ids.size(1), labels = num_labels();
  const auto* rows = label_rows.data_ptr<std::int64_t>();
  std::vector<std::vector<std::int64_t>> positions(static_cast<std::size_t>(num_rows));
  std::size_t most = 0;
  for (std::int64_t i = 0; i < labels; ++i) {
    auto& row = positions[static_cast<std::size_t>(rows[i] / tokens)];
    row.push_back(rows[i] % tokens);
    most = std::max(most, row.size());
  }
  const auto width = static_cast<std::int64_t>(most);
  label_positions = at::zeros({num_rows, width}, at::kLong);
  label_slots = at::empty({labels}, at::kLong);
  auto* slots = label_slots.data_ptr<std::int64_t>();
  for (std::int64_t b = 0; b < num_rows; ++b) {
    auto* row = label_positions.data_ptr<std::int64_t>() + b * width;
    for (const std::int64_t position : positions[static_cast<std::size_t>(b)]) {
      *slots++ = row - label_positions.data_ptr<std::int64_t>();
      *row++ = position;
    }
  }
}

std::int64_t Batch::num_bytes() const {
  std::int64_t bytes = 0;
  visit_tensors(*this, [&](const Tensor& tensor) { bytes += static_cast<std::int64_t>(tensor.nbytes()); });
  return bytes;
}

Batch Batch::to(torch::Device device) const {
  Batch moved = *this;
  visit_tensors(moved, [&](Tensor& tensor) { tensor = tensor.to(device); });
  return moved;
}

}  // namespace bezel::data
