#include "cli/config_arguments.h"

#include <algorithm>
#include <cstdio>

#include "cli/orbax_base.h"

namespace bezel::cli {

train::TrainConfig config_of(std::vector<std::string> arguments) {
  std::string path;
  if (!arguments.empty() && !arguments.front().starts_with("--")) {
    path = arguments.front();
    arguments.erase(arguments.begin());
  }
  train::TrainConfig config = train::read_train_config(path, train::parse_overrides(arguments));
  use_converted_base(config);
  return config;
}

void run_with_config_keys(CLI::App& command, int& status, int (*run)(std::vector<std::string>)) {
  command.prefix_command();
  command.callback([&command, &status, run] {
    const std::vector<std::string> arguments = command.remaining();
    const auto asks = [](const std::string& argument) { return argument == "--help" || argument == "-h"; };
    if (std::ranges::any_of(arguments, asks))
      std::printf("%s", command.help().c_str());
    else
      status = run(arguments);
  });
}

}  // namespace bezel::cli
