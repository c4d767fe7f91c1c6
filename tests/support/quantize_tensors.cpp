// quantize_tensors IN.safetensors OUT.safetensors
// Quantizes every tensor of IN in each way and writes codes, scales and dequantized values:
// NAME.nf4, NAME.fp4 (packed, absmax, values), NAME.nf4x2 (packed, absmax, map, scales, offset, values),
// NAME.int8 (codes, scales, values).
#include <cstdio>
#include <string>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"

namespace {

using namespace bezel;  // a test program's main file
using Tensors = std::vector<std::pair<std::string, torch::Tensor>>;

void add_four_bit(const std::string& name, const quant::FourBit& matrix, Tensors& out) {
  out.emplace_back(name + ".packed", matrix.packed);
  out.emplace_back(name + ".absmax", matrix.scales);
  out.emplace_back(name + ".values", quant::dequantize(matrix));
  if (!matrix.nested) return;
  out.emplace_back(name + ".map", matrix.nested->map);
  out.emplace_back(name + ".scales", matrix.nested->scales);
  out.emplace_back(name + ".offset", torch::tensor({matrix.nested->offset}));
}

void run(const std::string& in, const std::string& to) {
  Tensors out;
  for (const auto& [name, tensor] : io::load_safetensors(in)) {
    add_four_bit(name + ".nf4", quant::quantize_4bit(tensor, quant::FourBitType::kNf4, false), out);
    add_four_bit(name + ".fp4", quant::quantize_4bit(tensor, quant::FourBitType::kFp4, false), out);
    add_four_bit(name + ".nf4x2", quant::quantize_4bit(tensor, quant::FourBitType::kNf4, true), out);
    const quant::IntegerMatrix matrix = quant::quantize_int8(tensor);
    out.emplace_back(name + ".int8.codes", matrix.codes);
    out.emplace_back(name + ".int8.scales", matrix.scales);
    out.emplace_back(name + ".int8.values", quant::dequantize(matrix));
  }
  io::save_safetensors(to, out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "quantize_tensors IN OUT\n");
    return 2;
  }
  try {
    run(argv[1], argv[2]);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
