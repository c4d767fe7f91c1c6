// fresh_adapter MODEL OUT TOWERS TARGETS [EXCLUDED [PARAMETERS]]
// Attaches fresh adapters of rank 4 to a checkpoint and writes them to folder OUT. TOWERS: names with commas between.
// TARGETS and EXCLUDED: "default", "all-linear", "re:REGEX", or names with commas between. PARAMETERS: names.
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>

#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_io.h"
#include "support/test_program.h"

namespace {

using namespace bezel;  // a test program's main file

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

lora::ModulePattern pattern(const std::string& text) {
  if (text == "default") return {};
  if (text == "all-linear") return lora::ModulePattern::from_text(text);
  if (text.starts_with("re:")) return lora::ModulePattern::from_text(text.substr(3));
  return lora::ModulePattern::from_names(split(text));
}

void run(const std::vector<std::string>& arguments) {
  gemma4::Model model = gemma4::load_model(arguments[0], {torch::kFloat, torch::kCPU}).model;
  lora::LoraConfig config{.rank = 4, .alpha = 8, .towers = {}};
  for (const std::string& tower : split(arguments[2])) config.towers.push_back(lora::parse_tower(tower));
  config.target_modules = pattern(arguments[3]);
  if (arguments.size() > 4) config.exclude_modules = pattern(arguments[4]);
  if (arguments.size() > 5) config.target_parameters = split(arguments[5]);
  const bool text_only = model->config().text_only;
  lora::Selection selection = lora::select_targets(*model, config, {.text_only = text_only});
  lora::attach(selection, config);
  {
    const at::NoGradGuard no_grad;
    for (const lora::Target& target : selection.targets) target.adapter()->b.normal_(0.0, 0.05);
  }
  std::filesystem::create_directories(arguments[1]);
  lora::save_adapter(arguments[1], selection, config, {arguments[0], model->config().architecture()});
  for (const lora::TowerCount& row : selection.counts())
    std::printf("%s %lld\n", std::string(lora::tower_name(row.tower)).c_str(), static_cast<long long>(row.layers));
}

}  // namespace

int main(int argc, char** argv) {
  return test::run_program(argc, argv, argc >= 5, "fresh_adapter MODEL OUT TOWERS TARGETS [EXCLUDED [PARAMETERS]]",
                           run);
}
