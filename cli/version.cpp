#include <iostream>

#include <ATen/Version.h>
#include <torch/version.h>

#include "cli/command.h"

namespace bezel::cli {

std::string version_text() {
  return "bezel " BEZEL_VERSION " (LibTorch " TORCH_VERSION ", CPU " + at::get_cpu_capability() + ")";
}

void add_version(CLI::App& app, int&) {
  app.add_subcommand("version", "Print the version")->callback([] { std::cout << version_text() << '\n'; });
}

}  // namespace bezel::cli
