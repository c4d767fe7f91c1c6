#include "cli/inspect_text.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "cli/command.h"

namespace bezel::cli {
namespace {

using io::Json;

constexpr const char* kTowers[] = {"language", "vision", "audio", "projectors", "experts"};

std::string shape_text(const Json& shape) {
  std::string out = "[";
  for (const Json& size : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(size.get<long long>());
  return out + "]";
}

}  // namespace

void print_tree(const Json& tree) {
  std::size_t widest = 0;
  for (const Json& rows : tree)
    for (const Json& row : rows) widest = std::max(widest, row["name"].get<std::string>().size());
  for (const char* tower : kTowers) {
    if (!tree.contains(tower)) continue;
    std::printf("\n%s\n", tower);
    for (const Json& row : tree[tower]) {
      std::printf("  %-*s %5s x %-4s %-20s %10s", static_cast<int>(widest), row["name"].get<std::string>().c_str(),
                  with_commas(row["count"].get<long long>()).c_str(), row["storage"].get<std::string>().c_str(),
                  shape_text(row["shape"]).c_str(), bytes_text(row["bytes"].get<double>()).c_str());
      const auto layers = row["layers"].get<std::string>();
      std::printf("%s%s\n", layers.empty() ? "" : "  layers ", layers.c_str());
    }
  }
}

void print_clip_layers(const Json& layers) {
  std::printf("\nclip bounds by layer (- is infinite or missing)\n");
  for (const auto& [name, bounds] : layers.items()) {
    std::printf("  %s:", name.c_str());
    for (const char* bound : {"input_min", "input_max", "output_min", "output_max"}) {
      if (bounds[bound].is_null())
        std::printf(" %10s", "-");
      else
        std::printf(" %10.4g", bounds[bound].get<double>());
    }
    std::printf("\n");
  }
}

void print_targets(const Json& targets) {
  std::printf("\n%-30s", "target_modules adapts");
  for (const char* tower : kTowers) std::printf(" %10s", tower);
  std::printf("  layers\n");
  for (const auto& [name, towers] : targets.items()) {
    std::printf("  %-28s", name.c_str());
    for (const char* tower : kTowers)
      std::printf(" %10s", towers.contains(tower) ? with_commas(towers[tower].get<long long>()).c_str() : "-");
    std::printf("\n");
  }
}

void print_training_memory(const Json& memory) {
  const Json& assumes = memory["assumes"];
  std::printf("\ntraining takes about (LoRA r %lld on the decoder, %s tokens a micro-batch, %s)\n",
              assumes["lora_r"].get<long long>(), with_commas(assumes["tokens"].get<long long>()).c_str(),
              assumes["dtype"].get<std::string>().c_str());
  for (const char* name : {"dense", "int8", "nf4", "as stored"}) {
    if (!memory.contains(name)) continue;
    const auto bytes = [&](const char* key) { return bytes_text(memory[name][key].get<double>()); };
    std::printf("  %-10s %10s, with gradient_checkpointing %10s; weights %s, activations at most %s\n", name,
                bytes("total").c_str(), bytes("total_recomputed").c_str(), bytes("weights").c_str(),
                bytes("activations").c_str());
  }
  std::printf("`bezel preprocess CONFIG.yaml --dry-run` says it for a run of yours.\n");
}

void print_selected(const Json& selected) {
  for (const char* tower : kTowers) {
    if (!selected.contains(tower)) continue;
    std::printf("%s: %zu layers\n", tower, selected[tower].size());
    for (const Json& name : selected[tower]) std::printf("  %s\n", name.get<std::string>().c_str());
  }
}

}  // namespace bezel::cli
