// Runs media readers on requests from stdin, one a line with tabs between the fields, and writes tensors or prints
// numbers. For the comparison with Pillow, soundfile, soxr and transformers. Requests:
//   size HEIGHT WIDTH BUDGET   prints "height width tokens" or "error"
//   tokens SAMPLES             prints "frames valid rows tokens"
//   probe PATH                 prints "height width"
//   decode PATH OUT            writes pixels [3, H, W]
//   resize PATH OUT BUDGET     writes pixels [3, h, w], resized
//   image PATH OUT BUDGET      writes patches, positions, pool_index and counts [num_soft_tokens]
//   video PATH OUT             writes patches [F, P, V], 0..1, and positions [F, P, 2]
//   audio PATH OUT             writes waveform, features, mask, soft_rows
//   image-of PATH OUT MODEL    writes features, layout and counts [num_soft_tokens], by the model's own settings
//   audio-of PATH OUT MODEL    the same
// An Error of the library is printed as "error MESSAGE", and the next request is read.
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "bezel/data/audio.h"
#include "bezel/data/image.h"
#include "bezel/data/media.h"
#include "bezel/error.h"
#include "bezel/io/mapped_file.h"
#include "bezel/io/tensor_io.h"

namespace {

namespace data = bezel::data;
using Fields = std::vector<std::string>;

Fields split(const std::string& line) {
  Fields fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, '\t');) fields.push_back(field);
  return fields;
}

data::ImageSettings budget(const std::string& field) {
  data::ImageSettings settings;
  settings.max_soft_tokens = std::stoll(field);
  return settings;
}

void write_image(const Fields& f) {
  const auto settings = budget(f.at(3));
  const auto image = data::load_image(f.at(1), settings);
  bezel::io::save_safetensors(f.at(2), {{"patches", image.features},
                                        {"positions", image.layout},
                                        {"pool_index", image.soft_index},
                                        {"counts", torch::tensor({image.num_soft_tokens})}});
}

void write_video(const Fields& f) {
  std::vector<torch::Tensor> patches, positions;
  for (const data::Media& frame : data::load_media(data::MediaKind::kVideo, f.at(1), {}).items) {
    patches.push_back(frame.features.to(torch::kFloat).div(255));
    positions.push_back(frame.layout);
  }
  bezel::io::save_safetensors(f.at(2), {{"patches", torch::stack(patches)}, {"positions", torch::stack(positions)}});
}

void write_audio(const Fields& f) {
  const auto samples = data::decode_samples_file(f.at(1));
  const auto audio = data::load_audio(f.at(1), data::AudioSettings{});
  bezel::io::save_safetensors(f.at(2), {{"waveform", torch::tensor(samples, torch::kFloat32)},
                                        {"features", audio.features},
                                        {"mask", audio.layout},
                                        {"soft_rows", audio.soft_index}});
}

void write_media(const Fields& f, bezel::input::MediaKind kind) {
  const auto settings = data::media_settings(f.at(3), bezel::gemma4::read_model_config(f.at(3)));
  const data::Media media = data::load_media(kind, f.at(1), settings).items.at(0);
  bezel::io::save_safetensors(
      f.at(2),
      {{"features", media.features}, {"layout", media.layout}, {"counts", torch::tensor({media.num_soft_tokens})}});
}

void write_pixels(const Fields& f, const torch::Tensor& pixels) {
  bezel::io::save_safetensors(f.at(2), {{"pixels", pixels.contiguous()}});
}

std::vector<std::byte> read_bytes(const std::string& path) {
  const auto file = bezel::io::MappedFile::open(path);
  return {file->data(), file->data() + file->size_bytes()};
}

std::string answer(const Fields& f) {
  namespace input = bezel::input;
  std::ostringstream out;
  const std::string& what = f.at(0);
  if (what == "size") {
    const auto size = input::resized_image_size(std::stoll(f.at(1)), std::stoll(f.at(2)), 16, std::stoll(f.at(3)));
    out << size.height << ' ' << size.width << ' '
        << input::image_soft_tokens(std::stoll(f.at(1)), std::stoll(f.at(2)), 16, std::stoll(f.at(3)));
  } else if (what == "tokens") {
    const std::int64_t samples = std::stoll(f.at(1)), frames = input::audio_num_frames(samples);
    out << frames << ' ' << input::audio_valid_frames(samples) << ' ' << input::audio_subsampled_frames(frames) << ' '
        << input::audio_soft_tokens(samples);
  } else if (what == "probe") {
    const auto size = data::probe_image_file(f.at(1));
    out << size.height << ' ' << size.width;
  } else {
    if (what == "decode") write_pixels(f, data::decode_image(read_bytes(f.at(1)), f.at(1)));
    if (what == "resize") {
      write_pixels(f, data::resize_image(data::decode_image(read_bytes(f.at(1)), f.at(1)), budget(f.at(3))));
    }
    if (what == "image") write_image(f);
    if (what == "video") write_video(f);
    if (what == "audio") write_audio(f);
    if (what == "image-of") write_media(f, bezel::input::MediaKind::kImage);
    if (what == "audio-of") write_media(f, bezel::input::MediaKind::kAudio);
    out << "ok";
  }
  return out.str();
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << answer(split(line)) << '\n' << std::flush;
    } catch (const bezel::Error& error) {
      std::cout << "error " << error.what() << '\n' << std::flush;
    }
  }
  return 0;
}
