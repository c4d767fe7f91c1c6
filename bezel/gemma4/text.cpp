#include "bezel/gemma4/text.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "bezel/nn/attention.h"
#include "bezel/nn/recompute.h"
#include "bezel/nn/weight_site.h"

namespace bezel::gemma4 {

using torch::Tensor;

namespace {

// Rows `queries` (int64 [B * Q] into B*T) of x [B, T, H] -> [B, Q, H].
Tensor take_queries(const Tensor& x, const Tensor& queries) {
  if (!queries.defined()) return x;
  return nn::gather_rows(x.flatten(0, 1), queries).view({x.size(0), -1, x.size(2)});
}

// What a layer reads beside what is fixed for the call. nn::recompute keeps it, as a list of defined tensors.
struct LayerReads {
  Tensor h;          // [B, T, H]
  Tensor per_layer;  // [B, Q, 256] or undefined
  KvStates shared;   // of an earlier layer, or undefined

  std::vector<Tensor> pack() const {
    std::vector<Tensor> list{h};
    if (per_layer.defined()) list.push_back(per_layer);
    if (shared.key.defined()) list.insert(list.end(), {shared.key, shared.value});
    return list;
  }
  static LayerReads unpack(const std::vector<Tensor>& list, bool has_per_layer, bool has_shared) {
    LayerReads reads{.h = list[0], .per_layer = {}, .shared = {}};
    if (has_per_layer) reads.per_layer = list[1];
    if (has_shared) reads.shared = {list.end()[-2], list.end()[-1]};
    return reads;
  }
};

// Position of each place of a row in its sample, [B or 1, T], for tokens that come after `past` others.
Tensor positions(const Context& context, std::int64_t past, std::int64_t num_tokens, at::TensorOptions options) {
  const Tensor place = at::arange(past, past + num_tokens, options).unsqueeze(0);
  if (!context.segment_start.defined()) return place;
  const Tensor position = place - context.segment_start;
  return context.prefix_end.defined() ? position + (context.prefix_end - context.prefix_begin).sum(0) : position;
}

}  // namespace

TextAttentionImpl::TextAttentionImpl(const TextConfig& config, const TextLayerConfig& layer)
    : layer_(layer), eps_(config.rms_norm_eps), value_norm_(config.value_norm) {
  const nn::LinearImpl::Options options{.bias = config.attention_bias};
  const std::int64_t q_size = config.num_heads * layer.head_dim, kv_size = layer.num_kv_heads * layer.head_dim;
  // RoPE is linear, so the norm before it applies the scale of the scores.
  const nn::NormForm query_form{config.norm_offset, config.attention_scale};
  q_proj = register_module("q_proj", nn::Linear(config.hidden_size, q_size, options));
  q_norm = register_module("q_norm", nn::RmsNorm(layer.head_dim, eps_, query_form));
  if (layer.kv_mode != KvMode::kReuse) {
    k_proj = register_module("k_proj", nn::Linear(config.hidden_size, kv_size, options));
    k_norm = register_module("k_norm", nn::RmsNorm(layer.head_dim, eps_, nn::NormForm{config.norm_offset}));
    if (!layer.key_is_value) v_proj = register_module("v_proj", nn::Linear(config.hidden_size, kv_size, options));
  }
  o_proj = register_module("o_proj", nn::Linear(q_size, config.hidden_size, options));
}

KvStates TextAttentionImpl::key_value(const Tensor& x, const nn::RopeTable& rotation) {
  const std::vector<std::int64_t> shape{x.size(0), x.size(1), layer_.num_kv_heads, layer_.head_dim};
  const Tensor raw = k_proj(x).view(shape);  // [B, T, K, D]
  const Tensor value = v_proj ? v_proj(x).view(shape) : raw;
  return {nn::apply_rope(k_norm(raw), rotation).transpose(1, 2),
          (value_norm_ ? nn::rms_norm(value, {}, eps_) : value).transpose(1, 2)};
}

Tensor TextAttentionImpl::forward(const Tensor& x, const Tensor& queries, const AttentionContext& inputs,
                                  const KvStates& shared, KvStates& own) {
  const Tensor asking = take_queries(x, queries);                                            // [B, Q, H]
  const Tensor raw = q_proj(asking).view({x.size(0), asking.size(1), -1, layer_.head_dim});  // [B, Q, A, D]
  const Tensor query = nn::apply_rope(q_norm(raw), inputs.query_rope).transpose(1, 2);       // [B, A, Q, D]
  if (layer_.kv_mode != KvMode::kReuse) own = key_value(x, inputs.key_rope);
  if (layer_.kv_mode != KvMode::kReuse && inputs.update_cache) own = inputs.update_cache(own);
  const KvStates& kv = layer_.kv_mode == KvMode::kReuse ? shared : own;
  return o_proj(nn::attention(query, kv.key, kv.value, inputs.mask));
}

TextMlpImpl::TextMlpImpl(std::int64_t hidden_size, std::int64_t intermediate_size) {
  gate_proj = register_module("gate_proj", nn::Linear(hidden_size, intermediate_size));
  up_proj = register_module("up_proj", nn::Linear(hidden_size, intermediate_size));
  down_proj = register_module("down_proj", nn::Linear(intermediate_size, hidden_size));
}

Tensor TextMlpImpl::forward(const nn::FusedInput& x) {
  const auto both = nn::project(x, {gate_proj, up_proj});
  return down_proj(nn::FusedInput::gated(both[0], both[1]));
}

TextLayerImpl::TextLayerImpl(const TextConfig& config, std::int64_t layer_idx) {
  const TextLayerConfig& layer = config.layers.at(layer_idx);
  const auto norm = [&](const char* name) {
    return register_module(name,
                           nn::RmsNorm(config.hidden_size, config.rms_norm_eps, nn::NormForm{config.norm_offset}));
  };
  self_attn = register_module("self_attn", TextAttention(config, layer));
  mlp = register_module("mlp", TextMlp(config.hidden_size, layer.intermediate_size));
  input_layernorm = norm("input_layernorm");
  post_attention_layernorm = norm("post_attention_layernorm");
  pre_feedforward_layernorm = norm("pre_feedforward_layernorm");
  post_feedforward_layernorm = norm("post_feedforward_layernorm");
  if (config.layer_scalar) expect("layer_scalar", {1}, layer_scalar);
  if (const std::int64_t width = config.hidden_size_per_layer_input; width > 0) {
    per_layer_input_gate = register_module("per_layer_input_gate", nn::Linear(config.hidden_size, width));
    per_layer_projection = register_module("per_layer_projection", nn::Linear(width, config.hidden_size));
    post_per_layer_input_norm = norm("post_per_layer_input_norm");
  }
  if (config.num_experts > 0) {
    router = register_module("router", Router(config));
    experts = register_module("experts", Experts(config));
    post_feedforward_layernorm_1 = norm("post_feedforward_layernorm_1");
    post_feedforward_layernorm_2 = norm("post_feedforward_layernorm_2");
    pre_feedforward_layernorm_2 = norm("pre_feedforward_layernorm_2");
  }
}

Tensor TextLayerImpl::feed_forward(const Tensor& x) {
  const Tensor dense = mlp(pre_feedforward_layernorm->input(x));
  if (!experts) return dense;
  const Tensor rows = x.reshape({-1, x.size(-1)});  // [N, H], router and experts see the residual
  const Tensor sparse = experts(pre_feedforward_layernorm_2(rows), router(rows)).view(x.sizes());
  return post_feedforward_layernorm_1(dense) + post_feedforward_layernorm_2(sparse);
}

Tensor TextLayerImpl::forward(const Tensor& x, const Tensor& queries, const Tensor& per_layer_input,
                              const AttentionContext& inputs, const KvStates& shared, KvStates& own) {
  const Tensor attended = self_attn(input_layernorm(x), queries, inputs, shared, own);
  Tensor h = post_attention_layernorm->add_to(take_queries(x, queries), attended);
  h = post_feedforward_layernorm->add_to(h, feed_forward(h));
  if (per_layer_input_gate) {
    const Tensor gated = nn::geglu(per_layer_input_gate(h), per_layer_input);
    h = post_per_layer_input_norm->add_to(h, per_layer_projection(gated));
  }
  return layer_scalar.defined() ? h * layer_scalar : h;
}

TextModelImpl::TextModelImpl(const TextConfig& config)
    : config_(config), plans_(plan_layers(config, false)), gathering_plans_(plan_layers(config, true)) {
  const std::int64_t hidden = config.hidden_size, width = config.hidden_size_per_layer_input;
  embed_tokens = register_module("embed_tokens", nn::Embedding(config.vocab_size, hidden, std::sqrt(hidden)));
  embed_tokens->padding_id = config.pad_token_id;
  layers = register_module("layers", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config.num_layers; ++i) layers->push_back(TextLayer(config, i));
  norm = register_module("norm", nn::RmsNorm(hidden, config.rms_norm_eps, nn::NormForm{config.norm_offset}));
  if (width > 0) {
    embed_tokens_per_layer =
        register_module("embed_tokens_per_layer",
                        nn::Embedding(config.vocab_size_per_layer, config.num_layers * width, std::sqrt(width)));
    per_layer_model_projection =
        register_module("per_layer_model_projection", nn::Linear(hidden, config.num_layers * width));
    per_layer_projection_norm = register_module("per_layer_projection_norm", nn::RmsNorm(width, config.rms_norm_eps));
  }
  for (const TextLayerConfig& layer : config.layers) {
    const RopeConfig& rope = config.rope(layer.type);
    frequencies_[static_cast<std::size_t>(layer.type)] =
        nn::inverse_frequencies(layer.head_dim, rope.theta, rope.partial_rotary_factor) / rope.linear_factor;
  }
}

Tensor TextModelImpl::embed(const Tensor& ids, torch::ScalarType dtype) { return embed_tokens(ids, dtype); }

Tensor TextModelImpl::per_layer_inputs(const Tensor& ids, const Tensor& embeds) {
  if (!embed_tokens_per_layer) return {};
  const std::vector<std::int64_t> shape{ids.size(0), ids.size(1), config_.num_layers,
                                        config_.hidden_size_per_layer_input};
  const Tensor where_it_is = ids.to(embed_tokens_per_layer->weight->device());
  const Tensor looked_up = embed_tokens_per_layer(where_it_is, embeds.scalar_type()).to(embeds.device()).view(shape);
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.hidden_size));
  const Tensor projected = (per_layer_model_projection(embeds) * scale).view(shape);
  return (per_layer_projection_norm(projected) + looked_up) * std::sqrt(0.5);
}

AttentionContext TextModelImpl::attention_context(LayerType type, const Tensor& embeds, const Context& context,
                                                  const Tensor& queries) const {
  const auto options = at::TensorOptions(at::kLong).device(embeds.device());
  const bool sliding = type == LayerType::kSliding;
  const std::int64_t num_tokens = embeds.size(1), position = context.past ? context.past->num_tokens() : 0;
  const std::int64_t num_past = sliding ? std::min(position, config_.sliding_window - 1) : position;  // of the keys
  const Tensor place = positions(context, position, num_tokens, options);
  const auto rotation = [&](const Tensor& of) {
    const Tensor& frequencies = nn::placed(frequencies_[static_cast<std::size_t>(type)], embeds.device());
    return nn::rope_table(of, frequencies, embeds.scalar_type());
  };
  AttentionContext inputs;
  inputs.key_rope = rotation(place);
  inputs.query_rope = inputs.key_rope;
  if (queries.defined()) inputs.query_rope = rotation(place.expand({queries.size(0), -1}).gather(1, queries));
  // A single token sees all keys that a KvCache returns, which may come in any order.
  if (num_past > 0 && num_tokens == 1) return inputs;
  inputs.mask =
      nn::key_ranges({.num_keys = num_past + num_tokens,
                      .num_past = num_past,
                      .window = sliding ? config_.sliding_window : 0,
                      .attention_mask = context.attention_mask,
                      .segment_start = context.segment_start,
                      .image_run_end = sliding || context.image_run_begin.defined() ? context.image_run_end : Tensor(),
                      .image_run_begin = context.image_run_begin,
                      .queries = queries,
                      .prefix_begin = context.prefix_begin,
                      .prefix_end = context.prefix_end},
                     embeds.device());
  return inputs;
}

CallInputs TextModelImpl::call_inputs(const Tensor& embeds, const Context& context) const {
  const std::int64_t batch = embeds.size(0), tokens = embeds.size(1);
  const auto inputs_of = [&](const Tensor& queries) {
    return std::array<AttentionContext, 2>{attention_context(LayerType::kSliding, embeds, context, queries),
                                           attention_context(LayerType::kFull, embeds, context, queries)};
  };
  CallInputs call{.all = inputs_of({}), .gathered = {}, .rows = {}, .per_layer = {}, .past = context.past};
  const Tensor& queries = context.queries;
  if (!queries.defined()) return call;
  call.rows = (queries + at::arange(0, batch * tokens, tokens, queries.options()).unsqueeze(1)).flatten();
  if (queries.size(1) < tokens) call.gathered = inputs_of(queries);
  return call;
}

Tensor TextModelImpl::run_layer(const LayerPlan& plan, const Tensor& h, const CallInputs& call, SharedKv& shared) {
  TextLayerImpl& layer = layers->at<TextLayerImpl>(plan.layer);
  const auto type = static_cast<std::size_t>(plan.type);
  AttentionContext inputs = plan.rows == QueryRows::kAll ? call.all[type] : call.gathered[type];
  if (call.past != nullptr)
    inputs.update_cache = [past = call.past, idx = plan.layer](const KvStates& fresh) {
      return past->update(idx, fresh);
    };
  LayerReads reads{.h = h, .per_layer = {}, .shared = {}};
  if (call.per_layer.defined()) reads.per_layer = call.per_layer.select(2, plan.layer);
  if (plan.rows != QueryRows::kAll && reads.per_layer.defined())
    reads.per_layer = take_queries(reads.per_layer, call.rows);
  if (!plan.owns_kv()) reads.shared = shared[type];
  const Tensor rows = plan.rows == QueryRows::kGather ? call.rows : Tensor();
  const auto body = [&layer, plan, rows, inputs,
                     has_per_layer = reads.per_layer.defined()](const std::vector<Tensor>& given) {
    const LayerReads read = LayerReads::unpack(given, has_per_layer, !plan.owns_kv());
    KvStates own;
    const Tensor out = layer.forward(read.h, rows, read.per_layer, inputs, read.shared, own);
    return plan.shares_kv ? std::vector<Tensor>{out, own.key, own.value} : std::vector<Tensor>{out};
  };
  const std::vector<Tensor> given = reads.pack();
  const std::vector<Tensor> out = recompute ? nn::recompute(body, given, nn::adapter_tensors(layer)) : body(given);
  if (plan.shares_kv) shared[type] = {out[1], out[2]};
  return out[0];
}

Tensor TextModelImpl::forward(const Tensor& embeds, const Tensor& per_layer, const Context& context) {
  TORCH_CHECK(context.past == nullptr ||
                  (embeds.size(0) == 1 && !context.attention_mask.defined() && !context.segment_start.defined()),
              "a past goes with one sample without padding, not with ", embeds.size(0), " rows");
  CallInputs call = call_inputs(embeds, context);  // before the first layer extends the past
  call.per_layer = per_layer;
  const bool gathers = context.queries.defined() && context.queries.size(1) < embeds.size(1);
  SharedKv shared;
  Tensor h = embeds;
  for (const LayerPlan& plan : gathers ? gathering_plans_ : plans_) h = run_layer(plan, h, call, shared);
  return norm(gathers ? h : take_queries(h, call.rows));
}

}  // namespace bezel::gemma4
