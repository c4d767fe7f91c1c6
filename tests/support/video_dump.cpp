// video_dump OUT NUM_FRAMES FPS FILE...: reads one video, a file or several images of FPS frames a second, and writes
// the frames that the model sees as raw RGB to OUT. FPS of a file, where it is not 0, is video_fps. Prints JSON. For
// the comparison with torchcodec's rules in tests/parity/video_parity.py.
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "bezel/data/video.h"
#include "bezel/io/json.h"

namespace {

namespace data = bezel::data;

int run(const std::vector<std::string>& arguments) {
  data::VideoSettings settings;
  settings.num_frames = std::stoll(arguments.at(1));
  const double fps = std::stod(arguments.at(2));
  std::vector<std::string> files(arguments.begin() + 3, arguments.end());
  if (files.size() == 1 && fps > 0) settings.fps = fps;
  data::Video video = files.size() == 1 ? data::Video({.path = files.at(0), .name = files.at(0)}, settings)
                                        : data::Video(files, fps, files.at(0), settings);
  std::ofstream out(arguments.at(0), std::ios::binary);
  if (arguments.at(0) != "-")
    video.decode([&](const data::RgbImage& frame) {
      out.write(reinterpret_cast<const char*>(frame.pixels.data()), static_cast<std::streamsize>(frame.pixels.size()));
    });
  const bezel::io::Json row = {
      {"num_frames", video.info().num_frames}, {"fps", video.info().fps},    {"width", video.info().size.width},
      {"height", video.info().size.height},    {"indices", video.indices()}, {"times", video.times()}};
  std::cout << row.dump() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
