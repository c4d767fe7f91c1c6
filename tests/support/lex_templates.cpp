#include <exception>
#include <iostream>
#include <string>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/jinja/lexer.h"

namespace {

bezel::io::Json lex(const std::string& source) {
  bezel::io::Json row = bezel::io::Json::array();
  try {
    for (const auto& token : bezel::jinja::tokenize(source, "template"))
      row.push_back({static_cast<int>(token.kind), token.text, token.line});
  } catch (const bezel::Error& error) {
    return error.what();
  }
  return row;
}

}  // namespace

// Reads a template as a JSON string from each line of stdin and writes its tokens, or the error, as JSON.
int main() {
  try {
    for (std::string line; std::getline(std::cin, line);)
      std::cout << lex(bezel::io::parse_json(line, "stdin", {}).get<std::string>()).dump() << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
