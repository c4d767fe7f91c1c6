#pragma once

#include <functional>
#include <vector>

#include <torch/types.h>

namespace bezel::nn {

/// body(inputs), keeping for the backward pass `inputs` alone: the body is run again there, with the random keys it
/// had the first time (nn/random_keys). `parameters` are the trainable leaves that the body reads. All of them defined;
/// the body must give the same result for the same inputs. Gradients equal those of body(inputs). LibTorch has no
/// activation checkpointing in C++; reference: torch.utils.checkpoint.
std::vector<torch::Tensor> recompute(
    const std::function<std::vector<torch::Tensor>(const std::vector<torch::Tensor>&)>& body,
    const std::vector<torch::Tensor>& inputs, const std::vector<torch::Tensor>& parameters);

}  // namespace bezel::nn
