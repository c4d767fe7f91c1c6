// copy_safetensors FROM TO: reads a safetensors file with Bezel and writes what it found; exits with 1 when refused.
#include <iostream>

#include "bezel/error.h"
#include "bezel/io/safetensors.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    const auto file = bezel::io::SafetensorsFile::open(argv[1]);
    std::vector<bezel::io::TensorBytes> tensors;
    for (const bezel::io::TensorInfo& info : file->tensors())
      tensors.push_back({info.name, info.dtype, info.shape, file->data(info), info.end_bytes - info.begin_bytes});
    bezel::io::write_safetensors(argv[2], tensors, file->metadata());
  } catch (const bezel::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
