#include "cli/inspect_orbax.h"

#include <cstdio>

#include "cli/command.h"
#include "cli/inspect_text.h"

namespace bezel::cli {
namespace {

using io::Json;

std::string counted(const Json& value) { return with_commas(value.get<long long>()); }

std::string size_text(const Json& value) { return bytes_text(value.get<double>()); }

void print_fact(const char* name, const std::string& text) { std::printf("%-15s %s\n", name, text.c_str()); }

void print_orbax_towers(const Json& towers) {
  std::printf("\n%-12s %8s %8s %16s %11s\n", "tower", "arrays", "tensors", "parameters", "bytes");
  for (const auto& [name, tower] : towers.items())
    std::printf("%-12s %8s %8s %16s %11s\n", name.c_str(), counted(tower["arrays"]).c_str(),
                counted(tower["tensors"]).c_str(), counted(tower["parameters"]).c_str(),
                size_text(tower["bytes"]).c_str());
}

void print_unused(const Json& arrays) {
  if (arrays.empty()) return;
  std::printf("\n%zu arrays are not used: Gemma 4's Hugging Face form has no place for them\n", arrays.size());
  for (const Json& array : arrays)
    std::printf("  %s %s %s %s\n", array["name"].get<std::string>().c_str(),
                array["storage"].get<std::string>().c_str(), array["shape"].dump().c_str(),
                size_text(array["bytes"]).c_str());
}

// What to do with it.
void print_conclusion(const Json& report, const std::string& config) {
  if (report.contains("problem")) {
    std::printf("\n%s\n\nBezel cannot convert it.\n", report["problem"].get<std::string>().c_str());
    return;
  }
  const bool is_known = !report["converts"].is_null();
  const std::string flag = !config.empty() ? " --config " + config : is_known ? "" : " --config FILE";
  std::printf(
      "\n%s`bezel convert --model %s --tokenizer FOLDER%s --output FOLDER` makes a checkpoint that Bezel loads, "
      "%s in bfloat16.\n",
      is_known ? "" : "Its layers are of no released size, so the model's config.json is needed: ",
      report["path"].get<std::string>().c_str(), flag.c_str(),
      bytes_text(2.0 * report["parameters"].get<double>()).c_str());
}

}  // namespace

void print_orbax(const Json& report, const std::string& config) {
  print_fact("checkpoint", report["path"].get<std::string>());
  print_fact("form", std::string("Orbax (Google's JAX releases), ") +
                         (report["store"] == "OCDBT" ? "an OCDBT store" : "a folder of plain files"));
  const auto size = report["size"].get<std::string>();
  print_fact("size", size.empty() ? "none of the released ones" : size);
  print_fact("arrays", counted(report["arrays"]) + ", " + size_text(report["bytes_on_disk"]) + " on disk");
  print_fact("parameters", counted(report["parameters"]) + " in " + counted(report["tensors"]) + " tensors");
  for (const auto& [type, sums] : report["storage"].items())
    print_fact("storage", type + ": " + counted(sums["arrays"]) + " arrays, " + size_text(sums["bytes"]));
  print_orbax_towers(report["towers"]);
  print_tree(report["tree"]);
  print_unused(report["unused_arrays"]);
  print_conclusion(report, config);
}

}  // namespace bezel::cli
