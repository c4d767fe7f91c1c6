#include "bezel/gemma4/audio.h"

#include <cmath>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/matmul.h"
#include "bezel/kernels/vector_math.h"
#include "bezel/nn/functional.h"
#include "bezel/nn/local_attention.h"

namespace bezel::gemma4 {
namespace {

using torch::Tensor;

// clamp(x, -limit, limit); the mask is made in the backward pass from x, which others keep anyway.
class Limit : public torch::autograd::Function<Limit> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, double limit) {
    context->save_for_backward({x});
    context->saved_data["limit"] = limit;
    return at::clamp(x, -limit, limit);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const Tensor x = context->get_saved_variables()[0];
    const double limit = context->saved_data["limit"].toDouble();
    return {grads[0] * at::clamp(x, -limit, limit).eq(x), Tensor()};  // a limit itself is inside
  }
};

// Values beyond a limit like the reference's 1e10 mean that training has come apart, so a copy is hardly ever needed.
Tensor limited(const Tensor& x, double limit) {
  if (x.is_cpu()) {
    const auto [least, most] = at::aminmax(x.detach());
    if (least.item<double>() >= -limit && most.item<double>() <= limit) return x;
  }
  return Limit::apply(x, limit);
}

std::int64_t context_size(const AudioConfig& config) {
  return config.chunk_size + config.context_left - 1 + config.context_right;
}

std::int64_t num_blocks(const AudioConfig& config, std::int64_t num_frames) {
  return (num_frames + config.chunk_size - 1) / config.chunk_size;
}

// 3 x 3 convolution, stride 2, one row of zeros around: x [T, M, C], weight [C', C, 3, 3] -> [T', M', C'], as a product
// over gathered windows, which runs on any device and in float32 where every other product does. The channels of a
// place are contiguous, so that windows are gathered in runs.
Tensor strided_convolution(const Tensor& x, const Tensor& weight) {
  const Tensor padded = at::constant_pad_nd(x, {0, 0, 1, 1, 1, 1});
  const std::int64_t rows = (x.size(0) + 1) / 2, columns = (x.size(1) + 1) / 2;
  std::vector<Tensor> windows;
  for (std::int64_t dy = 0; dy < 3; ++dy)
    for (std::int64_t dx = 0; dx < 3; ++dx)
      windows.push_back(padded.slice(0, dy, dy + 2 * rows - 1, 2).slice(1, dx, dx + 2 * columns - 1, 2));
  const Tensor gathered = at::cat(windows, 2).view({rows * columns, -1});  // [T' M', 9 C]
  return kernels::matmul_nt(gathered, weight.permute({0, 2, 3, 1}).flatten(1)).view({rows, columns, -1});
}

}  // namespace

AudioAttentionImpl::AudioAttentionImpl(const AudioConfig& config)
    : config_(config), head_dim_(config.hidden_size / config.num_heads) {
  const nn::LinearImpl::Options options{.clipped = config.use_clipped_linears};
  const std::int64_t hidden = config.hidden_size;
  q_proj = register_module("q_proj", nn::Linear(hidden, hidden, options));
  k_proj = register_module("k_proj", nn::Linear(hidden, hidden, options));
  v_proj = register_module("v_proj", nn::Linear(hidden, hidden, options));
  post = register_module("post", nn::Linear(hidden, hidden, options));
  relative_k_proj = register_module("relative_k_proj", nn::Linear(hidden, hidden));
  expect("per_dim_scale", {head_dim_}, per_dim_scale);
}

Tensor AudioAttentionImpl::forward(const nn::FusedInput& x, const Tensor& positions, const Tensor& mask) {
  const auto heads = [&](const Tensor& rows) { return rows.view({rows.size(0), config_.num_heads, head_dim_}); };
  const std::vector<Tensor> given = nn::project(x, {q_proj, k_proj, v_proj});
  const nn::Chunks chunks{.q_scale = 1.0 / std::sqrt(static_cast<double>(head_dim_)) / std::log(2.0),
                          .k_scale = std::log(1.0 + std::exp(1.0)) / std::log(2.0),
                          .per_dim = at::softplus(per_dim_scale),
                          .logit_cap = config_.logit_cap,
                          .invalid_logit = config_.invalid_logit,
                          .mask = mask,
                          .before = config_.context_left - 1};
  return post(nn::local_attention(
      {heads(given[0]), heads(given[1]), heads(given[2]), heads(relative_k_proj(positions))}, chunks));
}

AudioFeedForwardImpl::AudioFeedForwardImpl(const AudioConfig& config)
    : limit_(config.gradient_clipping), residual_weight_(config.residual_weight) {
  const nn::LinearImpl::Options options{.clipped = config.use_clipped_linears};
  const std::int64_t hidden = config.hidden_size;
  ffw_layer_1 = register_module("ffw_layer_1", nn::Linear(hidden, 4 * hidden, options));
  ffw_layer_2 = register_module("ffw_layer_2", nn::Linear(4 * hidden, hidden, options));
  pre_layer_norm = register_module("pre_layer_norm", nn::RmsNorm(hidden, 1e-6));
  post_layer_norm = register_module("post_layer_norm", nn::RmsNorm(hidden, 1e-6));
}

Tensor AudioFeedForwardImpl::forward(const Tensor& x) {
  const Tensor wide = ffw_layer_1(pre_layer_norm->input(limited(x, limit_)));
  const Tensor h = ffw_layer_2(nn::FusedInput::silu(wide));
  const Tensor weight = post_layer_norm->weight * residual_weight_;
  return nn::rms_norm(limited(h, limit_), weight, post_layer_norm->eps, x);
}

Tensor DepthwiseConvImpl::forward(const Tensor& x) { return nn::gated_conv(x, weight.squeeze(1).t()); }

LightConvImpl::LightConvImpl(const AudioConfig& config) : limit_(config.gradient_clipping) {
  const nn::LinearImpl::Options options{.clipped = config.use_clipped_linears};
  const std::int64_t hidden = config.hidden_size;
  linear_start = register_module("linear_start", nn::Linear(hidden, 2 * hidden, options));
  linear_end = register_module("linear_end", nn::Linear(hidden, hidden, options));
  depthwise_conv1d = register_module("depthwise_conv1d", DepthwiseConv(hidden, config.conv_kernel_size));
  pre_layer_norm = register_module("pre_layer_norm", nn::RmsNorm(hidden, config.rms_norm_eps));
  conv_norm = register_module("conv_norm", nn::RmsNorm(hidden, config.rms_norm_eps));
}

Tensor LightConvImpl::forward(const Tensor& x) {
  const Tensor wide = linear_start(pre_layer_norm->input(x));
  const Tensor mixed = conv_norm(limited(depthwise_conv1d(wide), limit_));
  return linear_end(nn::FusedInput::silu(mixed)) + x;
}

AudioLayerImpl::AudioLayerImpl(const AudioConfig& config) : limit_(config.gradient_clipping) {
  const auto norm = [&](const char* name) { return register_module(name, nn::RmsNorm(config.hidden_size, 1e-6)); };
  feed_forward1 = register_module("feed_forward1", AudioFeedForward(config));
  feed_forward2 = register_module("feed_forward2", AudioFeedForward(config));
  self_attn = register_module("self_attn", AudioAttention(config));
  lconv1d = register_module("lconv1d", LightConv(config));
  norm_pre_attn = norm("norm_pre_attn");
  norm_post_attn = norm("norm_post_attn");
  norm_out = norm("norm_out");
}

Tensor AudioLayerImpl::forward(const Tensor& x, const Tensor& positions, const Tensor& mask) {
  Tensor h = feed_forward1(x);
  const Tensor attended = self_attn(norm_pre_attn->input(limited(h, limit_)), positions, mask);
  h = norm_post_attn->add_to(h, limited(attended, limit_));
  h = feed_forward2(lconv1d(h));
  return norm_out(limited(h, limit_));
}

SubsampleLayerImpl::SubsampleLayerImpl(std::int64_t in_channels, std::int64_t out_channels, double eps) : eps_(eps) {
  conv = register_module("conv", NamedWeight(std::vector<std::int64_t>{out_channels, in_channels, 3, 3}));
  norm = register_module("norm", NamedWeight(std::vector<std::int64_t>{out_channels}));
}

Tensor SubsampleLayerImpl::forward(const Tensor& x, const Tensor& mask) {
  return nn::layer_norm(strided_convolution(x * mask.view({-1, 1, 1}), conv->weight), norm->weight, eps_).clamp_min(0);
}

SubsampleImpl::SubsampleImpl(const AudioConfig& config) {
  const auto* channels = config.subsampling_channels;
  layer0 = register_module("layer0", SubsampleLayer(1, channels[0], config.rms_norm_eps));
  layer1 = register_module("layer1", SubsampleLayer(channels[0], channels[1], config.rms_norm_eps));
  // The reference derives the remaining mel bins from the first channel count, which is the number of bins.
  input_proj_linear =
      register_module("input_proj_linear", nn::Linear(channels[0] / 4 * channels[1], config.hidden_size));
}

Tensor SubsampleImpl::forward(const Tensor& features, Tensor& mask) {
  const auto halved = [](const Tensor& m) { return m.slice(0, 0, m.size(0), 2); };
  const Tensor once = layer0(features.unsqueeze(2), mask);
  mask = halved(mask);
  const Tensor twice = layer1(once, mask);  // [T, M, C]
  mask = halved(mask);
  return input_proj_linear(twice.flatten(1));
}

AudioModelImpl::AudioModelImpl(const AudioConfig& config)
    : Encoder(config.output_proj_dims, config.rms_norm_eps), config_(config) {
  subsample_conv_projection = register_module("subsample_conv_projection", Subsample(config));
  layers_ = register_module("layers", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config.num_layers; ++i) layers_->push_back(AudioLayer(config));
  output_proj = register_module(
      "output_proj", nn::Linear(config.hidden_size, config.output_proj_dims, nn::LinearImpl::Options{.bias = true}));
}

// Sinusoids of the distances context/2 … 0, [C, H]. Reference: Gemma4AudioRelPositionalEncoding.
Tensor AudioModelImpl::position_table(const Tensor& like) const {
  const std::int64_t half = config_.hidden_size / 2;
  const double step = std::log(10000.0) / static_cast<double>(std::max<std::int64_t>(half - 1, 1));
  const auto options = like.options().dtype(torch::kFloat);
  const Tensor rates = at::exp(at::arange(half, options) * -step);
  const Tensor distances = at::arange(context_size(config_) / 2, -1, -1, options).unsqueeze(1);
  const Tensor angles = distances * rates;
  kernels::prepare_vector_math();
  return at::cat({at::sin(angles), at::cos(angles)}, -1).to(like.scalar_type());
}

// Bool [blocks, chunk, context]: which key of its context each frame may see.
Tensor AudioModelImpl::block_mask(const Tensor& mask) const {
  const std::int64_t frames = mask.size(0), blocks = num_blocks(config_, frames);
  const auto index = [&](std::int64_t n) { return at::arange(n, mask.options().dtype(torch::kLong)); };
  const Tensor start = (index(blocks) * config_.chunk_size).view({-1, 1, 1});
  const Tensor query = start + index(config_.chunk_size).view({1, -1, 1});
  const Tensor key = start - (config_.context_left - 1) + index(context_size(config_)).view({1, 1, -1});
  const Tensor distance = query - key;
  const Tensor past = (distance >= 0).bitwise_and(distance < config_.context_left - 1);
  const Tensor future = (distance < 0).bitwise_and(distance > -config_.context_right);
  const Tensor inside = (key >= 0).bitwise_and(key < frames).bitwise_and(query < frames);
  const Tensor real = nn::gather_rows(mask, key.clamp(0, frames - 1).flatten()).view(key.sizes());
  return past.bitwise_or(future).bitwise_and(inside).bitwise_and(real);
}

Tensor AudioModelImpl::encode(const input::Media& clip, torch::ScalarType dtype) {
  Tensor rows_mask = clip.layout;
  const Tensor rows = subsample_conv_projection(clip.features.to(dtype), rows_mask);  // [F', H]
  const Tensor positions = position_table(rows), mask = block_mask(rows_mask);
  const Tensor h = run_layers(rows, [positions, mask](torch::nn::Module& layer, const Tensor& x) {
    return layer.as<AudioLayerImpl>()->forward(x, positions, mask);
  });
  return nn::gather_rows(output_proj(h), clip.soft_index);
}

}  // namespace bezel::gemma4
