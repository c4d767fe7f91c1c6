#include "bezel/input/raw_inputs.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"

namespace bezel::input {
namespace {

using torch::Tensor;

void require(bool ok, const char* name, const char* wanted, const Tensor& found) {
  if (ok) return;
  std::ostringstream shape;
  shape << found.sizes();
  throw Error("input '", name, "': got shape ", shape.str(), ", expected ", wanted);
}

Tensor flat_positions(const Tensor& mask) { return at::nonzero(mask.flatten()).flatten(); }

/// Names of the tensors that hold images or frames.
struct PixelNames {
  MediaKind kind;
  const char *pixels, *positions;
};

constexpr PixelNames kImageNames{MediaKind::kImage, "pixel_values", "image_position_ids"};
constexpr PixelNames kFrameNames{MediaKind::kVideo, "pixel_values_videos", "video_position_ids"};

/// One image or frame out of a padded batch.
Media unpad_image(const Tensor& patches, const Tensor& positions, std::int64_t pooling, const PixelNames& names) {
  const Tensor real = flat_positions(positions.ne(-1).all(1));
  Media image{.kind = names.kind,
              .features = patches.index_select(0, real).contiguous(),
              .layout = positions.index_select(0, real).contiguous()};
  if (real.size(0) == 0) throw Error("input '", names.positions, "': an image without a single real patch");
  if (image.layout.min().item<std::int64_t>() < 0) throw Error("input '", names.positions, "': a negative position");
  const std::int64_t columns = (image.layout.select(1, 0).max().item<std::int64_t>() + 1) / pooling;
  const Tensor window = at::div(image.layout, pooling, "floor");
  const Tensor token = window.select(1, 0) + columns * window.select(1, 1);  // [P]
  // Windows that no patch falls into make no soft token.
  const auto unique = at::_unique(token, /*sorted=*/true, /*return_inverse=*/true);
  image.soft_index = std::get<1>(unique);
  image.num_soft_tokens = std::get<0>(unique).size(0);
  return image;
}

Media audio_clip(const Tensor& features, const Tensor& mask, std::int64_t frames_per_token) {
  Media clip{
      .kind = MediaKind::kAudio, .features = features.contiguous(), .layout = mask.to(torch::kBool).contiguous()};
  Tensor rows = clip.layout;
  for (std::int64_t left = frames_per_token; left > 1; left /= 2) rows = rows.slice(0, 0, rows.size(0), 2);
  clip.soft_index = flat_positions(rows);
  clip.num_soft_tokens = clip.soft_index.size(0);
  return clip;
}

std::vector<Media> images_of(const Tensor& pixels, const Tensor& positions, const PixelNames& names,
                             std::int64_t pooling) {
  std::vector<Media> images;
  if (!pixels.defined()) return images;
  require(pixels.dim() == 3, names.pixels, "[images, patches, values]", pixels);
  if (!positions.defined()) throw Error("input '", names.positions, "' is missing beside '", names.pixels, "'");
  require(positions.dim() == 3 && positions.size(2) == 2 && positions.size(0) == pixels.size(0) &&
              positions.size(1) == pixels.size(1),
          names.positions, ("[images, patches, 2] as in '" + std::string(names.pixels) + "'").c_str(), positions);
  for (std::int64_t i = 0; i < pixels.size(0); ++i)
    images.push_back(unpad_image(pixels[i], positions[i].to(torch::kLong), pooling, names));
  return images;
}

std::vector<Media> audio_clips_of(const RawInputs& raw, std::int64_t frames_per_token) {
  std::vector<Media> clips;
  if (!raw.input_features.defined()) return clips;
  require(raw.input_features.dim() == 3, "input_features", "[audio clips, frames, mel bins]", raw.input_features);
  if (!raw.input_features_mask.defined()) throw Error("input 'input_features_mask' is missing beside 'input_features'");
  require(raw.input_features_mask.dim() == 2 && raw.input_features_mask.size(0) == raw.input_features.size(0) &&
              raw.input_features_mask.size(1) == raw.input_features.size(1),
          "input_features_mask", "[audio clips, frames] as in 'input_features'", raw.input_features_mask);
  for (std::int64_t i = 0; i < raw.input_features.size(0); ++i)
    clips.push_back(audio_clip(raw.input_features[i], raw.input_features_mask[i], frames_per_token));
  return clips;
}

void match_counts(MediaKind kind, std::int64_t placeholders, std::int64_t soft_tokens) {
  const std::string_view what = kMediaWords[kind].part;
  if (placeholders != soft_tokens)
    throw Error("the text holds ", placeholders, " ", what, " placeholder tokens, but the ", what, " inputs make ",
                soft_tokens, " soft tokens");
}

// Rows of one item.
struct Filled {
  Media media;
  Tensor rows;  // int64 [num_soft_tokens]
};

// Each kind's placeholders are filled in order by its items. Adds the items in the order of their first placeholders.
void add_media(PerKind<std::vector<Media>> media, const MediaTokenIds& ids, Batch& batch) {
  std::vector<Filled> filled;
  for (const MediaKind kind : kMediaKinds) {
    const Tensor rows = flat_positions(batch.input_ids.eq(ids[kind]));
    match_counts(kind, rows.size(0), soft_tokens(media[kind])[kind]);
    std::int64_t begin = 0;
    for (Media& item : media[kind]) {
      const std::int64_t count = item.num_soft_tokens;
      filled.push_back({std::move(item), rows.narrow(0, begin, count)});
      begin += count;
    }
  }
  const auto first_row = [](const Filled& item) {
    return item.rows.size(0) > 0 ? item.rows[0].item<std::int64_t>() : std::int64_t{0};
  };
  std::ranges::stable_sort(filled, {}, first_row);
  std::vector<Tensor> rows{at::empty({0}, at::kLong)};
  for (Filled& item : filled) {
    batch.media.push_back(std::move(item.media));
    rows.push_back(item.rows);
  }
  batch.soft_rows = at::cat(rows);
}

void add_labels(const Tensor& labels, Batch& batch) {
  const std::int64_t tokens = batch.input_ids.size(1);
  require(labels.sizes() == batch.input_ids.sizes(), "labels", "the shape of 'input_ids'", labels);
  // Position t predicts the token at t + 1; the last position of a row predicts nothing.
  Tensor next = at::constant_pad_nd(labels.to(torch::kLong).narrow(1, 1, tokens - 1), {0, 1}, kIgnoreLabel);
  const Tensor on_padding = next.ne(kIgnoreLabel).logical_and(batch.attention_mask.logical_not());
  batch.num_unpredictable = on_padding.sum().item<std::int64_t>();
  next = next.masked_fill(on_padding, kIgnoreLabel);
  batch.label_flat_index = flat_positions(next.ne(kIgnoreLabel));
  batch.label_ids = next.flatten().index_select(0, batch.label_flat_index);
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

}  // namespace

Batch make_batch(const RawInputs& raw, const MediaTokenIds& ids, std::int64_t pooling, std::int64_t frames_per_token) {
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

  Tensor types = at::zeros_like(batch.input_ids);
  for (const MediaKind kind : kMediaKinds)
    types = types + kMediaWords[kind].token_type * batch.input_ids.eq(ids[kind]).to(torch::kLong);
  batch.placeholder_rows = flat_positions(types);
  batch.mm_token_type_ids = raw.mm_token_type_ids.defined() ? raw.mm_token_type_ids.to(torch::kLong) : types;
  require(batch.mm_token_type_ids.sizes() == shape, "mm_token_type_ids", "the shape of 'input_ids'",
          batch.mm_token_type_ids);
  if (raw.labels.defined()) add_labels(raw.labels, batch);
  add_media({{images_of(raw.pixel_values, raw.image_position_ids, kImageNames, pooling),
              audio_clips_of(raw, frames_per_token),
              images_of(raw.pixel_values_videos, raw.video_position_ids, kFrameNames, pooling)}},
            ids, batch);
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
                                     {"in.pixel_values_videos", &raw.pixel_values_videos},
                                     {"in.video_position_ids", &raw.video_position_ids},
                                     {"in.input_features", &raw.input_features},
                                     {"in.input_features_mask", &raw.input_features_mask}})
    if (const auto found = tensors.find(name); found != tensors.end()) *tensor = found->second;
  if (!raw.input_ids.defined()) throw Error(path, ": tensor 'in.input_ids' is missing");
  return raw;
}

}  // namespace bezel::input
