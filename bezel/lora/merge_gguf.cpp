#include "bezel/lora/merge_gguf.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/lora/tables.h"
#include "bezel/nn/dora.h"
#include "bezel/nn/grouped_product.h"
#include "bezel/nn/weight_site.h"

namespace bezel::lora {
namespace {

// Rows [begin, begin + count) of scale * B A, of the matrices of a stack one below the other.
torch::Tensor update_rows(const nn::Adapter& adapter, std::int64_t num_experts, std::int64_t begin,
                          std::int64_t count) {
  const std::int64_t out = adapter.b.size(0);
  std::vector<torch::Tensor> parts;
  for (const std::int64_t end = begin + count; begin < end;) {
    const std::int64_t first = begin % out, rows = std::min(out - first, end - begin);
    const nn::Adapter one = nn::adapter_of_expert(adapter, begin / out, num_experts);
    parts.push_back(one.b.narrow(0, first, rows).mm(one.a).mul_(one.scale));
    begin += rows;
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

void put_inside(quant::GgufPart& part, const nn::Adapter& adapter, std::int64_t num_experts) {
  part.as_stored.reset();
  part.update_norm = std::make_shared<double>(0.0);
  part.rows = [base = part.rows, adapter, num_experts, norm = part.update_norm](std::int64_t begin,
                                                                                std::int64_t count) {
    const torch::Tensor before = base(begin, count);
    torch::Tensor rows = update_rows(adapter, num_experts, begin, count).add_(before);
    if (adapter.magnitude.defined()) nn::scale_rows(rows, adapter.magnitude, begin);
    *norm = std::hypot(*norm, (rows - before).norm().item<double>());
    return rows;
  };
}

}  // namespace

std::int64_t merge_into(torch::nn::Module& model, const std::vector<quant::GgufPart*>& parts) {
  for (const TableTarget& table : attached_tables(model))
    throw Error("the adapter trains ", table.name,
                ", which is not merged into this form at once; merge it into a "
                "checkpoint (bezel merge), and convert that one");
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
