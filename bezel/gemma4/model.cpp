#include "bezel/gemma4/model.h"

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/nn/clip_counts.h"
#include "bezel/nn/functional.h"
#include "bezel/nn/key_ranges.h"
#include "bezel/nn/weight_site.h"

namespace bezel::gemma4 {

using torch::Tensor;

EmbedderImpl::EmbedderImpl(std::int64_t soft_width, std::int64_t text_width, double eps) : eps_(eps) {
  embedding_projection = register_module("embedding_projection", nn::Linear(soft_width, text_width));
}

Tensor EmbedderImpl::forward(const Tensor& soft) { return embedding_projection(nn::rms_norm(soft, {}, eps_)); }

BackboneImpl::BackboneImpl(const ModelConfig& config) {
  const std::int64_t hidden = config.text.hidden_size;
  language_model = register_module("language_model", TextModel(config.text));
  if (config.vision) {
    vision_tower = register_module("vision_tower", VisionModel(*config.vision));
    embed_vision =
        register_module("embed_vision", Embedder(config.vision->hidden_size, hidden, config.vision->rms_norm_eps));
  }
  if (config.audio) {
    audio_tower = register_module("audio_tower", AudioModel(*config.audio));
    embed_audio =
        register_module("embed_audio", Embedder(config.audio->output_proj_dims, hidden, config.audio->rms_norm_eps));
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
}

data::Batch ModelImpl::make_batch(const data::RawInputs& raw) const {
  return data::make_batch(raw, {config_.image_token_id, config_.video_token_id, config_.audio_token_id},
                          config_.vision ? config_.vision->pooling_kernel_size : 1);
}

Tensor ModelImpl::soft_tokens(std::string_view name, const torch::nn::Module& tower, const std::vector<Tensor>& input,
                              const std::function<Tensor()>& run) {
  const bool may_cache =
      soft_token_cache_ && nn::ClipCounting::current() == nullptr && nn::adapter_tensors(tower).empty();
  return may_cache ? soft_token_cache_->get(name, input, run) : run();
}

Tensor ModelImpl::image_features(const data::Batch& batch) {
  if (batch.images.empty()) return {};
  if (!model->vision_tower) throw Error("the data holds pictures, but this checkpoint has no vision tower");
  std::vector<Tensor> soft;
  for (const data::ImagePatches& image : batch.images)
    soft.push_back(soft_tokens("vision", *model->vision_tower, {image.patches, image.positions}, [&] {
      return model->vision_tower(Picture{image.patches, image.positions, image.pool_index, image.num_soft_tokens},
                                 dtype_);
    }));
  return model->embed_vision(at::cat(soft));
}

Tensor ModelImpl::audio_features(const data::Batch& batch) {
  if (batch.recordings.empty()) return {};
  if (!model->audio_tower) throw Error("the data holds recordings, but this checkpoint has no audio tower");
  std::vector<Tensor> soft;
  for (const data::AudioFrames& recording : batch.recordings)
    soft.push_back(soft_tokens("audio", *model->audio_tower, {recording.features, recording.mask}, [&] {
      return nn::take_rows(model->audio_tower(recording.features, recording.mask, dtype_), recording.soft_rows);
    }));
  return model->embed_audio(at::cat(soft));
}

Tensor ModelImpl::hidden_states(const data::Batch& batch) {
  return hidden_states(batch, image_features(batch), audio_features(batch));
}

Tensor ModelImpl::hidden_states(const data::Batch& batch, const Tensor& images, const Tensor& recordings) {
  return decode(batch, images, recordings, {});
}

Tensor ModelImpl::label_states(const data::Batch& batch) {
  return label_states(batch, image_features(batch), audio_features(batch));
}

Tensor ModelImpl::label_states(const data::Batch& batch, const Tensor& images, const Tensor& recordings) {
  const Tensor states = decode(batch, images, recordings, batch.label_positions);
  return nn::take_rows(states.flatten(0, 1), batch.label_slots);
}

Tensor ModelImpl::next_state(const data::Batch& row, const Tensor& images, const Tensor& recordings, Past& past) {
  const std::int64_t tokens = row.input_ids.size(1);
  const Tensor last = tokens > 1 ? at::full({1, 1}, tokens - 1, row.input_ids.options()) : Tensor();
  return decode(row, images, recordings, last, &past).flatten(0, 1);
}

void ModelImpl::set_recompute(bool recompute) {
  model->language_model->recompute = recompute;
  if (model->vision_tower) model->vision_tower->recompute = recompute;
  if (model->audio_tower) model->audio_tower->recompute = recompute;
}

Tensor ModelImpl::decode(const data::Batch& batch, const Tensor& images, const Tensor& recordings,
                         const Tensor& queries, Past* past) {
  const std::int64_t pad = config_.text.pad_token_id;
  Tensor ids = batch.input_ids;
  if (batch.media_rows.defined() && batch.media_rows.size(0) > 0)
    ids = ids.flatten().scatter(0, batch.media_rows, pad).view(ids.sizes());
  Tensor embeds = model->language_model->embed(ids, dtype_);  // [B, T, H]
  std::vector<Tensor> rows, soft;
  const auto add = [&](const Tensor& where, const Tensor& tokens) {
    if (!tokens.defined()) return;
    TORCH_CHECK(where.size(0) == tokens.size(0), where.size(0), " placeholders for ", tokens.size(0), " soft tokens");
    rows.push_back(where);
    soft.push_back(tokens);
  };
  add(batch.image_rows, images);
  add(batch.audio_rows, recordings);
  if (!soft.empty()) embeds = nn::place_rows(embeds.flatten(0, 1), at::cat(rows), at::cat(soft)).view(embeds.sizes());
  const Tensor real = batch.has_padding ? batch.attention_mask : Tensor();
  const bool bidirectional = config_.text.bidirectional_vision && images.defined();
  const Tensor ends = bidirectional ? nn::picture_ends(batch.mm_token_type_ids, batch.sample_first) : Tensor();
  return model->language_model(embeds, model->language_model->per_layer_inputs(ids, embeds),
                               Context{real, batch.sample_first, ends, queries, past});
}

const std::shared_ptr<const quant::Weight>& ModelImpl::head() const {
  return lm_head ? lm_head->weight : model->language_model->embed_tokens->weight;
}

Tensor ModelImpl::logits(const Tensor& hidden) {
  return nn::softcap(head()->matmul(hidden), config_.text.final_logit_softcapping);
}

}  // namespace bezel::gemma4
