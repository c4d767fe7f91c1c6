#include "cli/paths.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

#include "bezel/io/home_path.h"
#include "bezel/io/hub_cache.h"

namespace bezel::cli {
namespace {

constexpr std::string_view kModels[] = {"--model", "path"};
constexpr std::string_view kPaths[] = {"--adapter",    "--data",       "--inputs",       "--output",
                                       "--per-sample", "--media-root", "--image",        "--audio",
                                       "--config",     "--tokenizer",  "--chat-template"};

template <std::size_t Size>
bool is_one_of(const std::string_view (&names)[Size], const std::string& name) {
  return std::ranges::find(names, name) != std::end(names);
}

}  // namespace

void read_paths(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    for (CLI::Option* option : command->get_options([](const CLI::Option*) { return true; })) {
      const std::string name = option->get_name(option->get_positional());
      if (is_one_of(kModels, name))
        option->transform([](std::string text) { return io::find_model(io::expand_home(text)); });
      else if (is_one_of(kPaths, name))
        option->transform([](std::string text) { return io::expand_home(text); });
    }
}

}  // namespace bezel::cli
