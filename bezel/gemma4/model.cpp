#include "bezel/gemma4/model.h"

#include <optional>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/gemma4/embedding_noise.h"
#include "bezel/nn/clip_counts.h"
#include "bezel/nn/functional.h"
#include "bezel/nn/key_ranges.h"
#include "bezel/nn/random_keys.h"
#include "bezel/nn/weight_site.h"

namespace bezel::gemma4 {

using torch::Tensor;

namespace {

// Frames are kept as bytes until they are encoded.
input::Media with_values(input::Media media) {
  if (media.features.scalar_type() == torch::kByte) media.features = media.features.to(torch::kFloat).div_(255);
  return media;
}

// Keys of the random numbers of all positions, and of those that are gathered.
nn::RandomKeys keys_of(const input::Batch& batch, const Tensor& queries) {
  if (!nn::RandomKeys::current().is_set) return {};
  const Tensor rows = batch.flat_row_keys();
  if (!queries.defined()) return nn::with_rows(rows);
  const std::int64_t tokens = batch.input_ids.size(1);
  const Tensor first = at::arange(0, rows.size(0), tokens, queries.options()).unsqueeze(1);
  return nn::with_rows(rows, rows.gather(0, (queries + first).flatten()));
}

}  // namespace

EmbedderImpl::EmbedderImpl(std::int64_t soft_width, std::int64_t text_width, double eps, bool quantizable) : eps_(eps) {
  embedding_projection = register_module(
      "embedding_projection", nn::Linear(soft_width, text_width, nn::LinearImpl::Options{.quantizable = quantizable}));
}

Tensor EmbedderImpl::forward(const Tensor& soft) { return embedding_projection(nn::rms_norm(soft, {}, eps_)); }

BackboneImpl::BackboneImpl(const ModelConfig& config) {
  language_model = register_module("language_model", TextModel(config.text));
  for (const input::MediaKind kind : input::kMediaKinds) {
    MediaInput path{.encoder = make_encoder(config, kind)};
    if (!path.encoder) continue;
    const Part* encoder = known_part(config.family, PartKind::kEncoder, kind);
    const Part* projector = known_part(config.family, PartKind::kProjector, kind);
    path.part = encoder != nullptr ? encoder : projector;
    // Google's quantized checkpoints of the unified model leave the projectors in bfloat16.
    path.projector =
        Embedder(path.encoder->width, config.text.hidden_size, path.encoder->eps, /*quantizable=*/!config.is_unified());
    if (encoder != nullptr) register_module(std::string(encoder->last_name()), path.encoder);
    const bool inside = encoder != nullptr && projector->module.starts_with(std::string(encoder->module) + ".");
    torch::nn::Module& parent = inside ? static_cast<torch::nn::Module&>(*path.encoder) : *this;
    parent.register_module(std::string(projector->last_name()), path.projector);
    media_inputs.push_back(std::move(path));
  }
}

ModelImpl::ModelImpl(ModelConfig config, torch::ScalarType dtype)
    : config_(std::move(config)), parts_(parts_of(config_)), dtype_(dtype) {
  TORCH_CHECK(dtype == torch::kFloat || dtype == torch::kBFloat16, "computes in float32 or bfloat16, not ", dtype);
  model = register_module("model", Backbone(config_));
  if (!config_.text.tie_word_embeddings)
    lm_head = register_module("lm_head",
                              nn::Linear(config_.text.hidden_size, config_.text.vocab_size,
                                         nn::LinearImpl::Options{.quantizable = false, .role = nn::MatrixRole::kHead}));
  trained_head = register_module("trained_head", std::make_shared<nn::TrainedHead>());
}

input::Batch ModelImpl::make_batch(const input::RawInputs& raw) const {
  return input::make_batch(raw, config_.placeholder_ids, config_.vision ? config_.vision->pooling_kernel_size : 1,
                           config_.is_unified() ? 1 : input::kMelFramesPerToken);
}

bool ModelImpl::may_cache(const MediaInput& path) const {
  return soft_token_cache_ && !path.encoder->layers()->is_empty() && !nn::has_clip_observer(*path.encoder) &&
         nn::adapter_tensors(*path.encoder).empty();
}

Tensor ModelImpl::soft_tokens(const MediaInput& path, const input::Media& media, bool may_cache) {
  const auto run = [&] { return path.encoder->encode(with_values(media), dtype_); };
  return may_cache ? soft_token_cache_->get(path.part->label, {media.features, media.layout}, run) : run();
}

// Soft tokens of each item that one encoder reads.
std::vector<Tensor> ModelImpl::encode_kind(const MediaInput& path, const std::vector<input::Media>& media) {
  std::vector<Tensor> soft, keys;
  std::vector<std::int64_t> sizes;
  const bool draws = nn::RandomKeys::current().is_set;
  std::optional<bool> caches;  // of the encoder; asked at its first item
  for (const input::Media& item : media) {
    if (input::encoder_kind(item.kind) != path.kind()) continue;
    if (!caches) caches = may_cache(path);
    const nn::ScopedRandomKeys random(nn::with_item(item.key));
    soft.push_back(soft_tokens(path, item, *caches));
    if (draws)
      keys.push_back(at::arange(item.num_soft_tokens, soft.back().options().dtype(at::kLong))
                         .add_(static_cast<std::int64_t>(item.key)));
    sizes.push_back(item.num_soft_tokens);
  }
  if (soft.empty()) return {};
  const Tensor rows = at::cat(soft);
  const nn::ScopedRandomKeys random(nn::with_rows(draws ? at::cat(keys) : Tensor()));
  return path.projector.ptr()->forward(rows).split_with_sizes(sizes);
}

Encoded ModelImpl::encode(const input::Batch& batch, const PhaseObserver& observer) {
  Encoded encoded{.kinds = batch.kinds()};
  input::PerKind<std::vector<Tensor>> soft;
  for (const input::MediaKind kind : input::kMediaKinds)
    if (encoded.kinds[kind] && !config_.media()[kind])
      throw Error("the data holds ", input::kMediaWords[kind].items, ", but this checkpoint has no ",
                  input::kMediaWords[kind].encoder);
  for (const MediaInput& path : model->media_inputs) {
    soft[path.kind()] = encode_kind(path, batch.media);
    if (!soft[path.kind()].empty() && observer) observer(Phase::encoder(path.kind()));
  }
  std::vector<Tensor> ordered;
  input::PerKind<std::size_t> next;
  for (const input::Media& item : batch.media) {
    const input::MediaKind kind = input::encoder_kind(item.kind);
    ordered.push_back(soft[kind][next[kind]++]);
  }
  if (!ordered.empty()) encoded.rows = at::cat(ordered);
  return encoded;
}

Tensor ModelImpl::label_states(const input::Batch& batch, const Encoded& encoded) {
  const Tensor states = decode(batch, encoded, batch.query_positions);
  return nn::gather_rows(states.flatten(0, 1), batch.label_query_index);
}

Tensor ModelImpl::next_state(const input::Batch& row, const Encoded& encoded, KvCache& past) {
  const std::int64_t tokens = row.input_ids.size(1);
  const Tensor last = tokens > 1 ? at::full({1, 1}, tokens - 1, row.input_ids.options()) : Tensor();
  return decode(row, encoded, last, &past).flatten(0, 1);
}

void ModelImpl::set_recompute(bool recompute) {
  model->language_model->recompute = recompute;
  for (const MediaInput& path : model->media_inputs) path.encoder->recompute = recompute;
}

// Tokens as they are looked up: placeholders are padding.
Tensor ModelImpl::looked_up_ids(const input::Batch& batch) const {
  const Tensor& ids = batch.input_ids;
  if (!batch.placeholder_rows.defined() || batch.placeholder_rows.size(0) == 0) return ids;
  return ids.flatten().scatter(0, batch.placeholder_rows, config_.text.pad_token_id).view(ids.sizes());
}

Tensor ModelImpl::decode(const input::Batch& batch, const Encoded& encoded, const Tensor& queries, KvCache* past) {
  const nn::ScopedRandomKeys random(keys_of(batch, queries));
  const Tensor ids = looked_up_ids(batch);
  Tensor embeds = EmbeddingNoise::add(model->language_model->embed(ids, dtype_));  // [B, T, H]
  if (encoded.rows.defined()) {
    TORCH_CHECK(batch.soft_rows.size(0) == encoded.rows.size(0), batch.soft_rows.size(0), " placeholders for ",
                encoded.rows.size(0), " soft tokens");
    const Tensor flat = embeds.flatten(0, 1);
    embeds = (embeds.requires_grad() ? flat.index_copy(0, batch.soft_rows, encoded.rows)
                                     : nn::scatter_rows(flat, batch.soft_rows, encoded.rows))
                 .view(embeds.sizes());
  }
  const Tensor real = batch.has_padding ? batch.attention_mask : Tensor();
  const bool sees_pixels = encoded.kinds[input::MediaKind::kImage] || encoded.kinds[input::MediaKind::kVideo];
  const bool bidirectional = config_.text.bidirectional_vision && sees_pixels;
  const Tensor ends = bidirectional ? nn::image_run_ends(batch.mm_token_type_ids, batch.segment_start) : Tensor();
  const bool in_all_layers = bidirectional && config_.text.image_attention == ImageAttention::kAllLayers;
  const Tensor begins = in_all_layers ? nn::image_run_begins(ends) : Tensor();
  // Rows of a table that stays on the host are looked up there.
  const auto& table = model->language_model->embed_tokens_per_layer;
  const bool on_host = batch.on_host && table && table->weight->device() != embeds.device();
  const Tensor of_table = on_host ? looked_up_ids(*batch.on_host) : ids;
  return model->language_model(
      embeds, model->language_model->per_layer_inputs(of_table, embeds),
      Context{real, batch.segment_start, ends, begins, queries, past, batch.prefix_begin, batch.prefix_end});
}

const std::shared_ptr<const quant::Weight>& ModelImpl::frozen_head() const {
  return lm_head ? lm_head->weight : model->language_model->embed_tokens->weight;
}

Tensor ModelImpl::logits(const Tensor& hidden) {
  return nn::softcap(output_embedding()->matmul(hidden), config_.text.final_logit_softcapping);
}

}  // namespace bezel::gemma4
