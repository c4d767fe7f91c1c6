#include "bezel/gemma4/vision.h"

#include <cmath>

#include <ATen/ATen.h>

#include "bezel/nn/bidirectional_attention.h"
#include "bezel/nn/functional.h"

namespace bezel::gemma4 {

using torch::Tensor;

VisionAttentionImpl::VisionAttentionImpl(const VisionConfig& config)
    : head_dim_(config.head_dim), eps_(config.rms_norm_eps) {
  const nn::LinearImpl::Options options{.clipped = config.use_clipped_linears};
  const std::int64_t q_size = config.num_heads * head_dim_, kv_size = config.num_kv_heads * head_dim_;
  q_proj = register_module("q_proj", nn::Linear(config.hidden_size, q_size, options));
  k_proj = register_module("k_proj", nn::Linear(config.hidden_size, kv_size, options));
  v_proj = register_module("v_proj", nn::Linear(config.hidden_size, kv_size, options));
  o_proj = register_module("o_proj", nn::Linear(q_size, config.hidden_size, options));
  q_norm = register_module("q_norm", nn::RmsNorm(head_dim_, eps_));
  k_norm = register_module("k_norm", nn::RmsNorm(head_dim_, eps_));
}

Tensor VisionAttentionImpl::forward(const nn::FusedInput& x, const nn::RopeTable& rotation) {
  const auto heads = [&](const Tensor& rows) { return rows.view({rows.size(0), -1, head_dim_}); };  // [P, A, D]
  const auto raw = nn::project(x, {q_proj, k_proj, v_proj});
  const nn::BidirectionalHeads norms{q_norm->weight, k_norm->weight, eps_, rotation};
  return o_proj(nn::bidirectional_attention(heads(raw[0]), heads(raw[1]), heads(raw[2]), norms));
}

VisionMlpImpl::VisionMlpImpl(const VisionConfig& config) {
  const nn::LinearImpl::Options options{.clipped = config.use_clipped_linears};
  gate_proj = register_module("gate_proj", nn::Linear(config.hidden_size, config.intermediate_size, options));
  up_proj = register_module("up_proj", nn::Linear(config.hidden_size, config.intermediate_size, options));
  down_proj = register_module("down_proj", nn::Linear(config.intermediate_size, config.hidden_size, options));
}

Tensor VisionMlpImpl::forward(const nn::FusedInput& x) {
  const auto both = nn::project(x, {gate_proj, up_proj});
  return down_proj(nn::FusedInput::gated(both[0], both[1]));
}

VisionLayerImpl::VisionLayerImpl(const VisionConfig& config) {
  const auto norm = [&](const char* name) {
    return register_module(name, nn::RmsNorm(config.hidden_size, config.rms_norm_eps));
  };
  self_attn = register_module("self_attn", VisionAttention(config));
  mlp = register_module("mlp", VisionMlp(config));
  input_layernorm = norm("input_layernorm");
  post_attention_layernorm = norm("post_attention_layernorm");
  pre_feedforward_layernorm = norm("pre_feedforward_layernorm");
  post_feedforward_layernorm = norm("post_feedforward_layernorm");
}

Tensor VisionLayerImpl::forward(const Tensor& x, const nn::RopeTable& rotation) {
  const Tensor h = post_attention_layernorm->add_to(x, self_attn(input_layernorm->input(x), rotation));
  return post_feedforward_layernorm->add_to(h, mlp(pre_feedforward_layernorm->input(h)));
}

VisionEncoderImpl::VisionEncoderImpl(const VisionConfig& config) {
  layers = register_module("layers", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config.num_layers; ++i) layers->push_back(VisionLayer(config));
}

PatchEmbedderImpl::PatchEmbedderImpl(const VisionConfig& config) {
  input_proj = register_module("input_proj", nn::Linear(3 * config.patch_size * config.patch_size, config.hidden_size));
  expect("position_embedding_table", {2, config.position_embedding_size, config.hidden_size}, position_embedding_table);
}

Tensor PatchEmbedderImpl::forward(const Tensor& patches, const Tensor& positions, torch::ScalarType dtype) {
  const auto axis = [&](std::int64_t i) {
    return nn::gather_rows(position_embedding_table.select(0, i), positions.select(1, i));
  };
  return input_proj((2 * (patches - 0.5)).to(dtype)) + (axis(0) + axis(1));
}

VisionModelImpl::VisionModelImpl(const VisionConfig& config)
    : Encoder(config.hidden_size, config.rms_norm_eps), config_(config) {
  patch_embedder = register_module("patch_embedder", PatchEmbedder(config));
  encoder = register_module("encoder", VisionEncoder(config));
  if (config.standardize) {
    expect("std_bias", {config.hidden_size}, std_bias);
    expect("std_scale", {config.hidden_size}, std_scale);
  }
  frequencies_ = nn::inverse_frequencies(config.head_dim / 2, config.rope_theta, 1.0);
}

Tensor VisionModelImpl::pool(const Tensor& h, const input::Media& image) const {
  const double share = 1.0 / static_cast<double>(config_.pooling_kernel_size * config_.pooling_kernel_size);
  const Tensor sums = nn::segment_sum(h.to(torch::kFloat) * share, image.soft_index, image.num_soft_tokens);
  // The mean is rounded to the working dtype before it is scaled, as in Gemma4VisionPooler.
  return sums.to(h.scalar_type()).to(torch::kFloat) * std::sqrt(static_cast<double>(config_.hidden_size));
}

Tensor VisionModelImpl::encode(const input::Media& image, torch::ScalarType dtype) {
  const Tensor embedded = patch_embedder(image.features, image.layout, dtype);  // [P, H]
  const nn::RopeTable rotation =
      nn::rope_table(image.layout, nn::placed(frequencies_, image.layout.device()), dtype);  // [P, 2, D/2]
  const Tensor h = run_layers(embedded, [rotation](torch::nn::Module& layer, const Tensor& x) {
    return layer.as<VisionLayerImpl>()->forward(x, rotation);
  });
  Tensor soft = pool(h, image);  // float32 [M, H]
  if (std_bias.defined()) soft = (soft - std_bias.to(torch::kFloat)) * std_scale.to(torch::kFloat);
  return soft.to(dtype);
}

}  // namespace bezel::gemma4
