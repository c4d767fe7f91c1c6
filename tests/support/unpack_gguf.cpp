// unpack_gguf IN.gguf OUT.safetensors
// Writes the values of every tensor of IN, in float32: NAME.values as a weight gives them, and of packed ones also
// NAME.plain, in ATen's operators, and NAME.bf16 and NAME.bf16_plain, rounded to bfloat16 on the way.
#include <cstdio>
#include <string>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "bezel/kernels/unpack.h"
#include "bezel/quant/packed.h"

namespace {

using namespace bezel;  // a test program's main file

void run(const std::string& in, const std::string& to) {
  std::vector<std::pair<std::string, torch::Tensor>> out;
  const auto file = io::GgufFile::open(in);
  for (const io::GgufTensor& info : file->tensors()) {
    const torch::Tensor mapped = io::map_tensor(file, info);
    if (!io::is_packed(info.type)) {
      out.emplace_back(info.name + ".values", mapped.to(torch::kFloat));
      continue;
    }
    const auto weight = quant::packed_weight(mapped, info.type, info.shape, info.name);
    out.emplace_back(info.name + ".values", weight->dequantize(torch::kFloat));
    out.emplace_back(info.name + ".bf16", weight->dequantize(torch::kBFloat16).to(torch::kFloat));
    out.emplace_back(info.name + ".plain", kernels::unpack_plain(mapped, info.type, torch::kFloat).view(info.shape));
    out.emplace_back(info.name + ".bf16_plain",
                     kernels::unpack_plain(mapped, info.type, torch::kBFloat16).to(torch::kFloat).view(info.shape));
  }
  io::save_safetensors(to, out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: unpack_gguf IN.gguf OUT.safetensors\n");
    return 2;
  }
  try {
    run(argv[1], argv[2]);
  } catch (const Error& error) {
    std::fprintf(stderr, "unpack_gguf: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
