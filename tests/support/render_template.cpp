#include <ctime>
#include <exception>
#include <iostream>
#include <string>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/jinja/template.h"

namespace {

using bezel::io::Json;

std::tm at(std::time_t seconds) {
  std::tm out{};
  gmtime_r(&seconds, &out);
  return out;
}

Json render(const Json& line) {
  bezel::jinja::Context context;
  const Json& variables = line.at("context");
  context.variables = &variables;
  const std::time_t seconds = line.value("now", std::int64_t{0});
  context.now = [seconds] { return at(seconds); };
  if (line.contains("max_steps")) context.limits.max_steps = line["max_steps"].get<std::size_t>();
  try {
    const auto text = bezel::jinja::Template::parse(line.at("template").get<std::string>(), "template").render(context);
    Json runs = Json::array();
    for (const auto& [end, origin] : text.runs())
      runs.push_back({end, origin.message, origin.own, origin.response, origin.generation});
    return {{"text", text.bytes()}, {"runs", runs}};
  } catch (const bezel::Error& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace

// Reads {"template", "context", "now"} as JSON from each line of stdin and writes the rendered text with its origins,
// or the error, as JSON.
int main() {
  try {
    for (std::string line; std::getline(std::cin, line);)
      std::cout << render(bezel::io::parse_json(line, "stdin", {.max_bytes = 64u << 20, .max_depth = 200})).dump()
                << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
