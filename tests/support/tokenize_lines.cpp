// Reads JSON strings, one a line, and prints their token ids; times on stderr. For the comparison with tokenizers.
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "bezel/data/tokenizer.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/json.h"

namespace {

double ms_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

int run(const std::string& path) {
  auto start = std::chrono::steady_clock::now();
  const auto tokenizer =
      bezel::io::is_gguf_path(path) ? bezel::data::Tokenizer::of_model(path) : bezel::data::Tokenizer::from_file(path);
  const double load_ms = ms_since(start);
  std::vector<std::string> texts;
  bezel::io::JsonLimits limits;
  limits.max_bytes = std::size_t{256} << 20;
  for (std::string line; std::getline(std::cin, line);)
    texts.push_back(bezel::io::parse_json(line, "stdin", limits).get<std::string>());
  std::vector<bezel::data::Tokenizer::Encoding> results;
  results.reserve(texts.size());
  start = std::chrono::steady_clock::now();
  for (const auto& text : texts) results.push_back(tokenizer.encode(text));
  const double encode_ms = ms_since(start);
  for (const auto& result : results) {
    bezel::io::Json row = {{"ids", result.ids},
                           {"begin", result.begin_bytes},
                           {"end", result.end_bytes},
                           {"decoded", tokenizer.decode(result.ids)}};
    std::cout << row.dump() << '\n';
  }
  std::fprintf(stderr, "{\"load_ms\": %.1f, \"encode_ms\": %.1f}\n", load_ms, encode_ms);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    return run(argv[1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
