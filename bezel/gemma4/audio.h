#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/pimpl.h>

#include "bezel/gemma4/config.h"
#include "bezel/gemma4/encoder.h"
#include "bezel/nn/linear.h"
#include "bezel/nn/rms_norm.h"

namespace bezel::gemma4 {

/// The projections around nn::local_attention. Reference: Gemma4AudioAttention.
class AudioAttentionImpl : public nn::Module {
 public:
  explicit AudioAttentionImpl(const AudioConfig& config);
  /// x [T, H], positions [C, H] (sinusoids of the distances C-1 … 0), mask bool [N, chunk, context], true where a key
  /// may be seen -> [T, H]
  torch::Tensor forward(const nn::FusedInput& x, const torch::Tensor& positions, const torch::Tensor& mask);

  nn::Linear q_proj{nullptr}, k_proj{nullptr}, v_proj{nullptr}, post{nullptr}, relative_k_proj{nullptr};
  torch::Tensor per_dim_scale;  // [D]

 private:
  AudioConfig config_;
  std::int64_t head_dim_;
};
TORCH_MODULE(AudioAttention);

/// Reference: Gemma4AudioFeedForward.
class AudioFeedForwardImpl : public torch::nn::Module {
 public:
  explicit AudioFeedForwardImpl(const AudioConfig& config);
  torch::Tensor forward(const torch::Tensor& x);  // [T, H] -> [T, H]

  nn::Linear ffw_layer_1{nullptr}, ffw_layer_2{nullptr};
  nn::RmsNorm pre_layer_norm{nullptr}, post_layer_norm{nullptr};

 private:
  double limit_, residual_weight_;
};
TORCH_MODULE(AudioFeedForward);

/// A depthwise convolution's `weight` [H, 1, width]; the module exists for its name in the checkpoint.
class DepthwiseConvImpl : public nn::Module {
 public:
  DepthwiseConvImpl(std::int64_t channels, std::int64_t width) { expect("weight", {channels, 1, width}, weight); }

  /// The gate and the convolution behind it, see nn::gated_conv: x [T, 2 H] -> [T, H].
  torch::Tensor forward(const torch::Tensor& x);

  torch::Tensor weight;  // [H, 1, width]
};
TORCH_MODULE(DepthwiseConv);

/// Gated, depthwise-convolved. Reference: Gemma4AudioLightConv1d.
class LightConvImpl : public torch::nn::Module {
 public:
  explicit LightConvImpl(const AudioConfig& config);
  torch::Tensor forward(const torch::Tensor& x);  // [T, H] -> [T, H]

  nn::Linear linear_start{nullptr}, linear_end{nullptr};
  DepthwiseConv depthwise_conv1d{nullptr};
  nn::RmsNorm pre_layer_norm{nullptr}, conv_norm{nullptr};

 private:
  double limit_;
};
TORCH_MODULE(LightConv);

/// Reference: Gemma4AudioLayer.
class AudioLayerImpl : public torch::nn::Module {
 public:
  explicit AudioLayerImpl(const AudioConfig& config);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& positions, const torch::Tensor& mask);

  AudioFeedForward feed_forward1{nullptr}, feed_forward2{nullptr};
  AudioAttention self_attn{nullptr};
  LightConv lconv1d{nullptr};
  nn::RmsNorm norm_pre_attn{nullptr}, norm_post_attn{nullptr}, norm_out{nullptr};

 private:
  double limit_;
};
TORCH_MODULE(AudioLayer);

/// A frozen `weight` of any shape; the module exists for its name in the checkpoint.
class NamedWeightImpl : public nn::Module {
 public:
  explicit NamedWeightImpl(std::vector<std::int64_t> shape) { expect("weight", std::move(shape), weight); }
  torch::Tensor weight;
};
TORCH_MODULE(NamedWeight);

/// Stride-2 convolution, layer norm over channels, ReLU. Reference: Gemma4AudioSubSampleConvProjectionLayer.
class SubsampleLayerImpl : public torch::nn::Module {
 public:
  SubsampleLayerImpl(std::int64_t in_channels, std::int64_t out_channels, double eps);
  /// x [T, M, C], mask bool [T] -> [T', M', C']
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask);

  NamedWeight conv{nullptr}, norm{nullptr};

 private:
  double eps_;
};
TORCH_MODULE(SubsampleLayer);

/// Reference: Gemma4AudioSubSampleConvProjection.
class SubsampleImpl : public torch::nn::Module {
 public:
  explicit SubsampleImpl(const AudioConfig& config);
  /// features [F, 128], mask bool [F] -> [F', H]; leaves the mask of the F' rows in `mask`.
  torch::Tensor forward(const torch::Tensor& features, torch::Tensor& mask);

  SubsampleLayer layer0{nullptr}, layer1{nullptr};
  nn::Linear input_proj_linear{nullptr};
};
TORCH_MODULE(Subsample);

/// Encoder of audio. Reference: Gemma4AudioModel.
class AudioModelImpl : public Encoder {
 public:
  explicit AudioModelImpl(const AudioConfig& config);

  torch::Tensor encode(const input::Media& clip, torch::ScalarType dtype) override;
  torch::nn::ModuleList layers() const override { return layers_; }

  Subsample subsample_conv_projection{nullptr};
  nn::Linear output_proj{nullptr};

 private:
  torch::Tensor position_table(const torch::Tensor& like) const;
  torch::Tensor block_mask(const torch::Tensor& mask) const;

  AudioConfig config_;
  torch::nn::ModuleList layers_;
};

}  // namespace bezel::gemma4
