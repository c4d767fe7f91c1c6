#include "bezel/nn/fused_input.h"

#include <ATen/ATen.h>

#include "bezel/kernels/geglu.h"
#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/rms_norm.h"
#include "bezel/kernels/silu.h"
#include "bezel/nn/functional.h"

namespace bezel::nn {

using torch::Tensor;

FusedInput FusedInput::normed(Tensor x, Tensor weight, double eps) {
  if (weight.requires_grad()) return rms_norm(x, weight, eps);
  FusedInput input(std::move(x));
  input.kind_ = Kind::kNormed;
  input.weight_ = kernels::norm_weight(input.sources_[0], weight);
  input.eps_ = eps;
  return input;
}

FusedInput FusedInput::silu(Tensor x) {
  FusedInput input(std::move(x));
  input.kind_ = Kind::kSilu;
  return input;
}

FusedInput FusedInput::gated(Tensor gate, Tensor up) {
  FusedInput input(std::move(gate));
  input.kind_ = Kind::kGated;
  input.sources_.push_back(std::move(up));
  return input;
}

Tensor FusedInput::value() const {
  switch (kind_) {
    case Kind::kNormed:
      return rms_norm(sources_[0], weight_, eps_);
    case Kind::kSilu:
      return at::silu(sources_[0]);
    case Kind::kGated:
      return geglu(sources_[0], sources_[1]);
    case Kind::kGiven:
      break;
  }
  return sources_[0];
}

FusedInput::Made FusedInput::make(const std::vector<Tensor>& sources) const {
  switch (kind_) {
    case Kind::kNormed: {
      kernels::Normed normed = kernels::rms_norm(sources[0], weight_, {}, eps_);
      return {std::move(normed.y), std::move(normed.inverse)};
    }
    case Kind::kSilu:
      return {kernels::silu(sources[0]), {}};
    case Kind::kGated: {
      if (kernels::may_loop(sources[0])) return {kernels::geglu(sources[0], sources[1]), {}};
      Tensor activated = at::gelu(sources[0], "tanh");
      return {activated * sources[1], activated};  // whose backward pass may follow
    }
    case Kind::kGiven:
      break;
  }
  return {sources[0], {}};
}

std::vector<Tensor> FusedInput::gradients(const std::vector<Tensor>& sources, const Tensor& inverse,
                                          const Tensor& d_rows) const {
  switch (kind_) {
    case Kind::kNormed:
      return {kernels::rms_norm_backward(sources[0], weight_, inverse, d_rows)};
    case Kind::kSilu:
      return {kernels::silu_backward(sources[0], d_rows)};
    case Kind::kGated: {
      auto [d_gate, d_up] = kernels::geglu_backward(sources[0], sources[1], d_rows, inverse);
      return {std::move(d_gate), std::move(d_up)};
    }
    case Kind::kGiven:
      break;
  }
  return {d_rows};
}

FusedInput FusedInput::without_sources() const {
  FusedInput input = *this;
  input.sources_.clear();
  return input;
}

}  // namespace bezel::nn
