// Reads inputs from stdin, one a line: KIND BASE64. Prints what a reader found in each as one line of JSON, for the
// comparison with other people's readers: {"error": ...} where it was refused. Kinds: safetensors, image, audio, and
// tokenizer, whose input is followed by a text to encode, in base64 too.
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "bezel/data/audio_decode.h"
#include "bezel/data/image_decode.h"
#include "bezel/data/media_source.h"
#include "bezel/data/tokenizer.h"
#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/safetensors.h"
#include "bezel/io/sha256.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;
using io::Json;

std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

Json read_safetensors(const std::string& bytes) {
  const auto file =
      io::SafetensorsFile::open(fuzz::as_file(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
  Json tensors = Json::object();
  for (const io::TensorInfo& tensor : file->tensors()) {
    const auto* const data = reinterpret_cast<const char*>(file->data(tensor));
    tensors[tensor.name] = {std::string(io::dtype_name(tensor.dtype)), tensor.shape,
                            io::to_hex({data, tensor.end_bytes - tensor.begin_bytes})};
  }
  return tensors;
}

Json read_image(const std::string& bytes) {
  const data::RgbImage image = data::decode_rgb(as_bytes(bytes), "input");
  const auto* const pixels = reinterpret_cast<const char*>(image.pixels.data());
  return {{"height", image.size.height},
          {"width", image.size.width},
          {"pixels", io::to_hex({pixels, image.pixels.size()})}};
}

Json read_audio(const std::string& bytes) {
  const std::vector<float> samples = data::decode_samples(as_bytes(bytes), "input");
  return io::to_hex({reinterpret_cast<const char*>(samples.data()), samples.size() * sizeof(float)});
}

Json read_tokenizer(const std::string& bytes, const std::string& text) {
  return data::Tokenizer::from_json(bytes, "input").encode(text, true).ids;
}

Json read(const std::string& kind, const std::string& bytes, const std::string& text) {
  if (kind == "safetensors") return read_safetensors(bytes);
  if (kind == "image") return read_image(bytes);
  if (kind == "audio") return read_audio(bytes);
  return read_tokenizer(bytes, text);
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::string kind, bytes, text;
    fields >> kind >> bytes >> text;
    Json answer;
    try {
      answer = {{"read", read(kind, data::decode_base64(bytes, "stdin"),
                              text.empty() ? "" : data::decode_base64(text, "stdin"))}};
    } catch (const bezel::Error& error) {
      answer = {{"error", error.what()}};
    }
    std::cout << answer.dump(-1, ' ', true, Json::error_handler_t::replace) << std::endl;
  }
}
