#include "bezel/report/verify_adapter.h"

#include <cstdio>
#include <memory>

#include "bezel/error.h"
#include "cli/command.h"
#include "cli/mmproj_option.h"

namespace bezel::cli {
namespace {

using io::Json;

struct VerifyAdapterOptions {
  std::string model;
  std::string mmproj;
  std::string adapter;
  std::vector<std::string> tools{"peft"};
  bool json = false;
};

void print_towers(const Json& towers) {
  std::printf("%-12s %7s %12s %10s %10s %10s %9s %13s\n", "tower", "layers", "parameters", "|A|", "|B|", "|s B A|",
              "of |W|", "logits move");
  for (const auto& [name, tower] : towers.items()) {
    const auto number = [&](const char* key) { return tower[key].get<double>(); };
    std::printf("%-12s %7s %12s %10.4g %10.4g %10.4g %8.3g%% %13.4g\n", name.c_str(),
                with_commas(tower["layers"].get<long long>()).c_str(),
                with_commas(tower["parameters"].get<long long>()).c_str(), number("norm_a"), number("norm_b"),
                number("norm_update"), 100 * number("relative_update"), number("logit_change"));
    if (tower["zero_layers"] != 0)
      std::printf("  %s of them have a B of zeros\n", with_commas(tower["zero_layers"].get<long long>()).c_str());
  }
}

void print(const Json& report) {
  print_towers(report["towers"]);
  if (report.contains("image_attention"))
    std::printf("image_attention: %s\n", report["image_attention"].get<std::string>().c_str());
  for (const Json& note : report["notes"]) std::printf("note: %s\n", note.get<std::string>().c_str());
  for (const Json& place : report["elsewhere"]) {
    std::printf("\n%s: %s\n", place["tool"].get<std::string>().c_str(),
                place["problems"].empty() ? "takes it as it is" : "does not take it as it is");
    for (const char* key : {"problems", "notes"})
      for (const Json& line : place[key]) std::printf("  - %s\n", line.get<std::string>().c_str());
  }
  std::printf("\n%s\n", report["problems"].empty() ? "The adapter loads and does what it says." : "Not good:");
  for (const Json& problem : report["problems"]) std::printf("  - %s\n", problem.get<std::string>().c_str());
}

int verify(const VerifyAdapterOptions& options) {
  const Json report = report::verify_adapter({options.model, options.mmproj}, options.adapter, options.tools);
  if (options.json)
    std::printf("%s\n", report.dump(2).c_str());
  else
    print(report);
  return report["problems"].empty() ? 0 : static_cast<int>(ErrorKind::kData);
}

}  // namespace

void add_verify_adapter(CLI::App& app, int& status) {
  auto options = std::make_shared<VerifyAdapterOptions>();
  CLI::App* command = app.add_subcommand("verify-adapter", "Does an adapter load, here and elsewhere, and do anything");
  command->add_option("--model", options->model, "checkpoint folder or GGUF file")->required();
  add_mmproj_option(*command, options->mmproj);
  command->add_option("--adapter", options->adapter, "PEFT adapter folder")->required();
  command->add_option("--for", options->tools, "tools that must take it whole: peft, vllm, llama.cpp")
      ->delimiter(',')
      ->capture_default_str();
  command->add_flag("--json", options->json, "as JSON");
  command->footer("Exit code 3 when it does not load, would do nothing, or would not load in a tool of --for.");
  command->callback([options, &status] { status = verify(*options); });
}

}  // namespace bezel::cli
