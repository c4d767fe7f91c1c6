#include "bezel/lora/merge_gguf.h"

#include <cmath>
#include <unordered_map>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/lora/tables.h"
#include "bezel/nn/dora.h"
#include "bezel/nn/weight_site.h"

namespace bezel::lora {
namespace {

void put_inside(quant::GgufPart& part, const nn::Adapter& adapter) {
  part.as_stored.reset();
  part.update_norm = std::make_shared<double>(0.0);
  part.rows = [base = part.rows, adapter, norm = part.update_norm](std::int64_t begin, std::int64_t count) {
    const torch::Tensor before = base(begin, count);
    torch::Tensor rows = adapter.b.narrow(0, begin, count).mm(adapter.a).mul_(adapter.scale).add_(before);
    if (adapter.magnitude.defined()) nn::scale_rows(rows, adapter.magnitude, begin);
    *norm = std::hypot(*norm, (rows - before).norm().item<double>());
    return rows;
  };
}

}  // namespace

std::int64_t merge_into(torch::nn::Module& model, const std::vector<quant::GgufPart*>& parts) {
  for (const TableTarget& table : attached_tables(model))
    throw Error("the adapter trains ", table.name,
                ", which is not merged into a GGUF file at once; merge it into a "
                "checkpoint (bezel merge), and convert that one");
  std::unordered_map<std::string, quant::GgufPart*> by_name;
  for (quant::GgufPart* part : parts) by_name.emplace(part->canonical, part);
  std::int64_t merged = 0;
  for (const nn::WeightSite& site : nn::linear_sites(model)) {
    if (!site.layer->adapter) continue;
    const auto found = by_name.find(site.module + ".weight");
    if (found == by_name.end())
      throw Error("layer '", site.module, "' is adapted, but its matrix goes into no GGUF file");
    put_inside(*found->second, *site.layer->adapter);
    ++merged;
  }
  return merged;
}

}  // namespace bezel::lora
