// pack_tensors IN.safetensors TYPE OUT.safetensors
// Packs every float32 matrix of IN as GGUF's TYPE, such as Q4_K: the uint8 rows under the same names.
#include <cstdio>
#include <string>

#include "bezel/error.h"
#include "bezel/io/gguf_types.h"
#include "bezel/io/tensor_io.h"
#include "bezel/kernels/pack.h"

namespace {

using namespace bezel;  // a test program's main file

io::GgufType type_named(const std::string& name) {
  for (std::uint32_t number = 0; number < 64; ++number)
    if (const auto type = io::gguf_type(number); type && io::gguf_type_info(*type).name == name) return *type;
  throw Error("no type is called '", name, "'");
}

void run(const std::string& in, const std::string& type, const std::string& to) {
  std::vector<std::pair<std::string, torch::Tensor>> out;
  for (const auto& [name, tensor] : io::load_safetensors(in))
    out.emplace_back(name, kernels::pack(tensor, type_named(type)));
  io::save_safetensors(to, out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: pack_tensors IN.safetensors TYPE OUT.safetensors\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3]);
  } catch (const Error& error) {
    std::fprintf(stderr, "pack_tensors: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
