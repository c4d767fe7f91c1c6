#include "bezel/report/verify_adapter.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/data/new_tokens.h"
#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_disable.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/lora/merge.h"
#include "bezel/nn/grouped_product.h"
#include "bezel/report/adapter_elsewhere.h"
#include "bezel/report/synthetic_batch.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/use_adapter.h"

namespace bezel::report {
namespace {

using io::Json;
using lora::Selection;
using lora::Tower;
using torch::Tensor;

Selection part_of(const Selection& all, Tower tower, bool inside) {
  Selection part{.targets = {}, .text_only = all.text_only};
  for (const lora::Target& target : all.targets)
    if ((target.tower == tower) == inside) part.targets.push_back(target);
  if ((tower == Tower::kLanguage) == inside) {
    part.tables = all.tables;
    part.norms = all.norms;
  }
  return part;
}

// Squares of Frobenius norms over some layers.
struct Squares {
  double a = 0, b = 0, update = 0, weight = 0;

  void add(const lora::Target& target) {
    for (std::int64_t expert = 0; expert < target.num_experts(); ++expert) {
      const bool is_stack = target.stack != nullptr;
      const nn::Adapter& all = *target.adapter();
      add(is_stack ? nn::adapter_of_expert(all, expert, target.num_experts()) : all,
          is_stack ? *target.weight()->select(expert) : *target.weight());
    }
  }

 private:
  void add(const nn::Adapter& adapter, const quant::Weight& matrix) {
    const Tensor a_wide = adapter.a.to(torch::kDouble), b_wide = adapter.b.to(torch::kDouble);
    const auto sum = [](const Tensor& x) { return x.sum().item<double>(); };
    a += sum(a_wide.square());
    b += sum(b_wide.square());
    // |B A|² is the sum over (Bᵀ B) * (A Aᵀ), both only rank x rank.
    const Tensor base = matrix.dequantize(torch::kFloat);
    if (adapter.magnitude.defined())
      update += std::pow((lora::add_update(base, adapter, torch::kFloat) - base).norm().item<double>(), 2);
    else
      update += adapter.scale * adapter.scale * sum(b_wide.t().mm(b_wide) * a_wide.mm(a_wide.t()));
    weight += std::pow(base.norm().item<double>(), 2);
  }
};

Tensor logits(gemma4::Model& model, const input::Batch& batch) {
  return model->logits(model->hidden_states(batch).flatten(0, 1)).to(torch::kFloat);
}

Json tower_json(gemma4::Model& model, const Selection& all, Tower tower, const input::Batch& batch,
                const Tensor& base) {
  const Selection part = part_of(all, tower, true);
  Squares squares;
  std::int64_t zero_layers = 0;
  std::map<std::int64_t, std::int64_t> ranks;
  for (const lora::Target& target : part.targets) {
    squares.add(target);
    zero_layers += target.adapter()->b.count_nonzero().item<std::int64_t>() == 0;
    ++ranks[target.rank];
  }
  Json ranks_json = Json::object();
  for (const auto& [rank, count] : ranks) ranks_json[std::to_string(rank)] = count;
  const lora::ScopedAdapterDisable others(part_of(all, tower, false));
  const double change = (logits(model, batch) - base).abs().max().item<double>();
  return {{"layers", part.targets.size()},
          {"tables", part.tables.size()},
          {"norms", part.norms.size()},
          {"parameters", part.parameters()},
          {"layers_by_rank", ranks_json},
          {"zero_layers", zero_layers},
          {"norm_a", std::sqrt(squares.a)},
          {"norm_b", std::sqrt(squares.b)},
          {"norm_update", std::sqrt(squares.update)},
          {"relative_update", squares.weight > 0 ? std::sqrt(squares.update / squares.weight) : 0.0},
          {"logit_change", change}};
}

void add_tower_problems(const std::string& name, const Json& tower, Json& problems) {
  if (tower["zero_layers"] == tower["layers"] && tower["tables"] == 0 && tower["norms"] == 0)
    problems.push_back(name + ": every B is zero, so the adapter does nothing here; was the tower trained?");
  else if (tower["logit_change"] == 0.0)
    problems.push_back(name + ": no output moves");
}

std::vector<std::string> full_names(const std::vector<std::string>& tools) {
  const std::map<std::string, std::string> names = {
      {"peft", "transformers + PEFT"}, {"vllm", "vLLM"}, {"llama.cpp", "llama.cpp"}};
  std::vector<std::string> full;
  for (const std::string& tool : tools) {
    const auto found = names.find(tool);
    if (found == names.end())
      throw Error(ErrorKind::kConfig, "--for: got '", tool, "', expected peft, vllm or llama.cpp");
    full.push_back(found->second);
  }
  return full;
}

}  // namespace

Json verify_adapter(const gemma4::ModelFiles& base_files, const std::string& folder,
                    const std::vector<std::string>& tools) {
  const std::vector<std::string> wanted = full_names(tools);
  const at::NoGradGuard no_grad;
  const gemma4::ModelFiles files = train::with_rows_for(base_files, data::tokens_of_adapter(base_files.model, folder));
  gemma4::LoadedModel loaded = gemma4::load_model(files, {.dtype = torch::kFloat});
  gemma4::Model model = loaded.model;
  const lora::LoadedAdapter adapter = train::use_adapter(model, folder);
  model->eval();
  const input::Batch batch = synthetic_batch(model);
  Tensor base;
  {
    const lora::ScopedAdapterDisable all(adapter.selection);
    base = logits(model, batch);
  }
  Json report{{"adapter", folder}, {"base_model", adapter.base_model}, {"towers", Json::object()}};
  if (!adapter.image_attention.empty()) report["image_attention"] = adapter.image_attention;
  Json problems = Json::array(), elsewhere = Json::array();
  for (const lora::TowerCount& count : adapter.selection.counts()) {
    const std::string name(lora::tower_name(count.tower));
    report["towers"][name] = tower_json(model, adapter.selection, count.tower, batch, base);
    add_tower_problems(name, report["towers"][name], problems);
  }
  for (const Elsewhere& place : adapter_elsewhere(*model, adapter.selection, folder)) {
    elsewhere.push_back({{"tool", place.tool}, {"problems", place.problems}, {"notes", place.notes}});
    if (std::ranges::find(wanted, place.tool) == wanted.end()) continue;
    for (const std::string& problem : place.problems) problems.push_back(place.tool + ": " + problem);
  }
  report["elsewhere"] = elsewhere;
  report["notes"] = loaded.warnings;
  for (const std::string& note : adapter.notes) report["notes"].push_back(note);
  report["problems"] = problems;
  return report;
}

}  // namespace bezel::report
