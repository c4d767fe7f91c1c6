#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/io/json.h"
#include "bezel/nn/expert_load.h"

namespace bezel::train {

/// How a mixture spread its tokens over its experts.
struct LayerLoad {
  std::string name;            ///< of the module, such as "model.language_model.layers.0.experts"
  std::vector<double> shares;  ///< of the tokens' choices that each expert got; together 1
};

/// While it lives, counts which experts the tokens of this thread's batches go to, held-out ones too.
class ExpertLoadMeter {
 public:
  explicit ExpertLoadMeter(const gemma4::Model& model);
  /// Of the layers that ran since the last call, in the model's order.
  std::vector<LayerLoad> take();

 private:
  std::vector<std::pair<std::string, const nn::StackedExperts*>> mixtures_;
  nn::ExpertCounting counting_;
};

/// {"name": [shares, rounded to 1e-6]}
io::Json to_json(const std::vector<LayerLoad>& layers);

}  // namespace bezel::train
