// Runs a fuzz target without libFuzzer, so with any compiler: FOLDER... MUTANTS. Every file of the folders goes in as
// it is, and then so many times with a few bytes changed, always in the same way.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "fuzz/target.h"

namespace {

using Bytes = std::vector<std::uint8_t>;
using Random = std::minstd_rand;

void run(const Bytes& bytes) { LLVMFuzzerTestOneInput(bytes.data(), bytes.size()); }

std::size_t below(Random& random, std::size_t count) { return random() % count; }

void change(Bytes& bytes, Random& random) {
  constexpr std::uint8_t kTelling[] = {0, 1, 0x7F, 0x80, 0xFF, '"', '\\', '{', '[', '-', '9', '\n'};
  const std::size_t at = below(random, bytes.size());
  const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
  const std::size_t count = 1 + below(random, std::min<std::size_t>(16, bytes.size() - at));
  switch (below(random, 5)) {
    case 0:
      *place ^= static_cast<std::uint8_t>(1u << below(random, 8));
      break;
    case 1:
      *place = kTelling[below(random, std::size(kTelling))];
      break;
    case 2:
      bytes.resize(at + 1);
      break;
    case 3:
      bytes.erase(place, place + static_cast<std::ptrdiff_t>(std::min(count, bytes.size() - 1)));
      break;
    default:
      bytes.insert(place, count, bytes[below(random, bytes.size())]);
  }
}

std::vector<std::filesystem::path> files_of(const char* folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  const int num_mutants = argc < 3 ? 0 : std::stoi(argv[argc - 1]);
  std::size_t num_inputs = 0;
  Random random(1);
  for (int i = 1; i < argc - 1; ++i) {
    for (const std::filesystem::path& path : files_of(argv[i])) {
      std::ifstream file(path, std::ios::binary);
      const Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
      run(bytes);
      ++num_inputs;
      for (int mutant = 0; mutant < num_mutants && !bytes.empty(); ++mutant) {
        Bytes changed = bytes;
        for (std::size_t left = 1 + below(random, 4); left > 0; --left) change(changed, random);
        run(changed);
        ++num_inputs;
      }
    }
  }
  std::printf("%zu inputs\n", num_inputs);
  return num_inputs == 0 ? 1 : 0;
}
