#pragma once

#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "bezel/lora/config.h"
#include "bezel/lora/targets.h"

namespace bezel::report {

/// What another program makes of an adapter that Bezel loads.
struct Elsewhere {
  std::string tool;                   ///< "transformers + PEFT", "vLLM" or "llama.cpp"
  std::vector<std::string> problems;  ///< why it is refused there, or does not do there what it does here
  std::vector<std::string> notes;     ///< what has to be asked for
};

/// The adapter of `folder`, attached to `model` as `selection`, in the tools that people load adapters with: do its
/// keys and target_modules name layers there, do rank and scale come out the same. From what peft 0.21.2 with
/// transformers 5.23 does, and the sources of vLLM's and llama.cpp's loaders.
std::vector<Elsewhere> adapter_elsewhere(torch::nn::Module& model, const lora::Selection& selection,
                                         const std::string& folder);

}  // namespace bezel::report
