#include "bezel/report/inspect.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include "bezel/error.h"
#include "bezel/train/config.h"
#include "cli/command.h"
#include "cli/inspect_orbax.h"
#include "cli/inspect_text.h"
#include "cli/mmproj_option.h"

namespace bezel::cli {
namespace {

using io::Json;

// Enough to see what is wrong; --json lists all.
constexpr std::size_t kShownNames = 10;

std::string number(const Json& value) { return with_commas(value.get<long long>()); }

void print_line(const char* name, const std::string& text) { std::printf("%-15s %s\n", name, text.c_str()); }

void print_names(const char* title, const Json& names, const char* meaning) {
  if (names.empty()) return;
  std::printf("\n%zu %s%s\n", names.size(), title, meaning);
  for (std::size_t i = 0; i < std::min(names.size(), kShownNames); ++i)
    std::printf("  %s\n", names[i].get<std::string>().c_str());
  if (names.size() > kShownNames) std::printf("  … (--json lists all)\n");
}

void print_towers(const Json& towers) {
  std::printf("\n%-12s %7s %8s %8s %16s %11s %8s %8s\n", "tower", "layers", "width", "tensors", "parameters", "bytes",
              "linear", "clipped");
  for (const auto& [name, tower] : towers.items()) {
    const auto cell = [&](const char* key) { return tower.contains(key) ? number(tower[key]) : std::string("-"); };
    std::printf("%-12s %7s %8s %8s %16s %11s %8s %8s\n", name.c_str(), cell("layers").c_str(),
                cell("hidden_size").c_str(), cell("tensors").c_str(), cell("parameters").c_str(),
                bytes_text(tower.value("bytes", 0.0)).c_str(), cell("linear_layers").c_str(),
                cell("clipped_layers").c_str());
  }
}

void print_clip(const Json& clip) {
  if (clip["bounds"] == 0 && clip["missing"] == 0) return;
  std::printf("\nclip bounds: %s read, %s infinite, %s missing (taken as infinite)\n", number(clip["bounds"]).c_str(),
              number(clip["infinite"]).c_str(), number(clip["missing"]).c_str());
  for (const char* name : {"input_min", "input_max", "output_min", "output_max"}) {
    if (clip.contains(name))
      std::printf("  %-11s %g … %g\n", name, clip[name][0].get<double>(), clip[name][1].get<double>());
  }
}

void print_checkpoint(const Json& report, bool clips) {
  print_line("checkpoint", report["path"]);
  print_line("architecture", report["architecture"]);
  print_line("key layout", report["layout"]);
  print_line("tensors", number(report["tensors"]) + " in " + number(report["files"]) + " file(s)");
  print_line("parameters", number(report["parameters"]));
  for (const auto& [type, sums] : report["storage"].items())
    print_line("storage",
               type + ": " + number(sums["tensors"]) + " tensors, " + bytes_text(sums["bytes"].get<double>()));
  const Json& text = report["text"];
  print_line("text", "vocabulary " + number(text["vocab_size"]) + ", " + number(text["attention_heads"]) + " heads, " +
                         number(text["full_attention_layers"]) + " full-attention layers, window " +
                         number(text["sliding_window"]) + ", " + number(text["kv_sharing_layers"]) +
                         " layers share keys and values, " + number(text["experts"]) + " experts");
  print_towers(report["towers"]);
  print_tree(report["tree"]);
  print_clip(report["clip"]);
  if (clips) print_clip_layers(report["clip"]["layers"]);
  print_targets(report["target_modules"]);
  print_training_memory(report["training_memory"]);
  print_names("unused tensors: keys and values of layers that read another layer's", report["unused_kv_tensors"],
              " (harmless)");
  for (const auto& [why, names] : report["unused_tensors"].items())
    print_names("unused tensors: ", names, (why + " (harmless)").c_str());
  print_names("tensors have no place in this model", report["unexpected_tensors"], "");
  print_names("tensors are missing", report["missing_tensors"], "");
  print_names("tensors have another shape", report["wrong_shapes"], "");
  print_names("clip bounds are no numbers", report["clip"]["broken"], "");
  for (const Json& warning : report["warnings"]) std::printf("\nwarning: %s\n", warning.get<std::string>().c_str());
  if (report.contains("problem")) std::printf("\n%s\n", report["problem"].get<std::string>().c_str());
  std::printf("\n%s\n", report["loads"].get<bool>() ? "Bezel can load it." : "Bezel cannot load it.");
}

void print_adapter(const Json& report) {
  print_line("adapter", report["path"]);
  print_line("base model", report["base_model"]);
  char text[96];
  std::snprintf(text, sizeof text, "r %lld, alpha %g%s%s", report["lora_r"].get<long long>(),
                report["lora_alpha"].get<double>(), report["use_rslora"].get<bool>() ? ", rsLoRA" : "",
                report["use_dora"].get<bool>() ? ", DoRA" : "");
  print_line("LoRA", text);
  print_line("tensors", number(report["tensors"]));
  for (const auto& [rank, count] : report["layers_by_rank"].items())
    print_line("rank", rank + ": " + number(count) + " layers");
  std::printf("\n%-12s %7s %14s\n", "tower", "layers", "parameters");
  for (const auto& [name, tower] : report["towers"].items())
    std::printf("%-12s %7s %14s\n", name.c_str(), number(tower["layers"]).c_str(), number(tower["parameters"]).c_str());
  print_names("layers lack A or B, or the two do not fit", report["incomplete_layers"], "");
  print_names("matrices or rows saved beside LoRA", report["saved_matrices"], " (whole ones count where they differ)");
  if (report["tokens"] > 0) print_line("tokens", number(report["tokens"]) + " with rows of their own");
  print_names("tensors are no LoRA pair", report["unexpected_tensors"], "");
  print_names("features that Bezel lacks", report["unsupported"], "");
  std::printf("\n%s\n", report["loads"].get<bool>() ? "Bezel can load it." : "Bezel cannot load it.");
}

void print_scan(const Json& scan) {
  std::printf("\n");
  if (scan.empty()) std::printf("Every value is a finite number.\n");
  for (const Json& item : scan)
    std::printf("%s: tensor '%s': %s NaN, %s Inf\n", item["file"].get<std::string>().c_str(),
                item["tensor"].get<std::string>().c_str(), number(item["nan"]).c_str(), number(item["inf"]).c_str());
}

struct InspectOptions {
  std::string path;
  std::string mmproj;
  std::string config;
  std::string target_modules;
  bool json = false;
  bool check = false;
  bool clips = false;
};

// As a config's key would be read.
int show_targets(const InspectOptions& options) {
  const train::TrainConfig config = train::parse_train_config(
      "", "--target-modules", {{"--target-modules", "target_modules", options.target_modules}}, false);
  const Json selected = report::inspect_targets(options.path, config.lora.target_modules, options.mmproj);
  if (options.json)
    std::printf("%s\n", selected.dump(2).c_str());
  else
    print_selected(selected);
  return 0;
}

int inspect(const InspectOptions& options) {
  if (!options.target_modules.empty()) return show_targets(options);
  Json report = report::inspect(options.path, options.mmproj, options.config);
  const bool is_orbax = report["kind"] == "orbax";
  if (is_orbax && options.clips)
    throw Error(ErrorKind::kConfig, options.path, ": a checkpoint of Orbax; --clips is for what `bezel convert` makes ",
                "of it");
  bool good = is_orbax ? !report.contains("problem") : report["loads"].get<bool>();
  if (options.check) {
    report["bad_values"] = report::scan_values(options.path, options.mmproj);
    good = good && report["bad_values"].empty();
  }
  if (options.json) {
    std::cout << report.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
  } else if (is_orbax) {
    print_orbax(report, options.config);
    if (options.check) print_scan(report["bad_values"]);
  } else {
    report["kind"] == "adapter" ? print_adapter(report) : print_checkpoint(report, options.clips);
    if (options.check) print_scan(report["bad_values"]);
  }
  return good ? 0 : static_cast<int>(ErrorKind::kData);
}

}  // namespace

void add_inspect(CLI::App& app, int& status) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command =
      app.add_subcommand("inspect", "What a checkpoint (also of Orbax), an adapter or a GGUF file holds");
  command->add_option("path", options->path, "checkpoint or adapter folder, also of Orbax, or GGUF file")->required();
  add_mmproj_option(*command, options->mmproj);
  command->add_option("--config", options->config,
                      "of Orbax: the model's config.json, where the shapes are not of a released size");
  command->add_flag("--json", options->json, "as JSON, with every name");
  command->add_flag("--check", options->check, "read every value and look for NaN and Inf");
  command->add_flag("--clips", options->clips, "the clip bounds of each layer");
  command->add_option("--target-modules", options->target_modules,
                      "only the layers that this value of the config key would adapt, in every tower");
  command->footer("Exit code 3 when Bezel could not load it, or with Orbax not convert it.");
  command->callback([options, &status] { status = inspect(*options); });
}

}  // namespace bezel::cli
