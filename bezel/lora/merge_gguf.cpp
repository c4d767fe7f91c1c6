#include "bezel/lora/merge_gguf.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/lora/merge.h"
#include "bezel/lora/norms.h"
#include "bezel/lora/tables.h"
#include "bezel/nn/grouped_product.h"
#include "bezel/nn/weight_site.h"

namespace bezel::lora {
namespace {

// Rows from `begin` on with the adapter inside, of the matrices of a stack one below the other.
torch::Tensor merged_stack_rows(const torch::Tensor& base, const nn::Adapter& adapter, std::int64_t num_experts,
                                std::int64_t begin) {
  if (num_experts == 1) return merged_rows(base, adapter, begin);
  const std::int64_t out = adapter.b.size(0);
  std::vector<torch::Tensor> parts;
  for (std::int64_t done = 0; done < base.size(0);) {
    const std::int64_t row = begin + done, first = row % out, rows = std::min(out - first, base.size(0) - done);
    parts.push_back(
        merged_rows(base.narrow(0, done, rows), nn::adapter_of_expert(adapter, row / out, num_experts), first));
    done += rows;
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

void put_inside(quant::GgufPart& part, const nn::Adapter& adapter, std::int64_t num_experts) {
  part.as_stored.reset();
  part.update_norm = std::make_shared<double>(0.0);
  part.rows = [base = part.rows, adapter, num_experts, norm = part.update_norm](std::int64_t begin,
                                                                                std::int64_t count) {
    const torch::Tensor before = base(begin, count);
    const torch::Tensor rows = merged_stack_rows(before, adapter, num_experts, begin);
    *norm = std::hypot(*norm, (rows - before).norm().item<double>());
    return rows;
  };
}

}  // namespace

std::int64_t merge_into(torch::nn::Module& model, const std::vector<quant::GgufPart*>& parts) {
  const auto refuse = [](const std::string& name) {
    throw Error("the adapter trains ", name,
                ", which is not merged into this form at once; merge it into a "
                "checkpoint (bezel merge), and convert that one");
  };
  for (const TableTarget& table : attached_tables(model)) refuse(table.name);
  for (const NormTarget& norm : attached_norms(model)) refuse(norm.name);
  std::unordered_map<std::string, quant::GgufPart*> by_name;
  for (quant::GgufPart* part : parts) by_name.emplace(part->canonical, part);
  std::int64_t merged = 0;
  for (const nn::WeightSite& site : nn::weight_sites(model)) {
    const std::optional<nn::Adapter>* adapter = site.adapter();
    if (adapter == nullptr || !*adapter) continue;
    const auto found = by_name.find(site.module + "." + site.slot->name);
    if (found == by_name.end())
      throw Error("layer '", site.name(), "' is adapted, but its matrix is not in what is written");
    quant::GgufPart& part = *found->second;
    put_inside(part, **adapter, site.mixture != nullptr ? site.mixture->num_experts() : 1);
    quant::check_packable(part);
    ++merged;
  }
  return merged;
}

}  // namespace bezel::lora
