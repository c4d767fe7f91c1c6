#include "bezel/data/video_frames.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "bezel/error.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFiles = 1000000;
constexpr std::size_t kMaxDigits = 15;

// "frame_0012.jpg" as "frame_", 12 and ".jpg".
struct FrameName {
  std::string stem, ending, name;
  std::int64_t number = -1;  // -1: the name has no number
};

FrameName split_name(const std::string& name) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const std::size_t dot = std::min(name.rfind('.'), name.size());
  std::size_t begin = dot;
  while (begin > 0 && dot - begin < kMaxDigits && is_digit(name[begin - 1])) --begin;
  FrameName out{.stem = name.substr(0, begin), .ending = name.substr(dot), .name = name};
  if (begin < dot) out.number = std::stoll(name.substr(begin, dot - begin));
  return out;
}

bool is_image_ending(std::string ending) {
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string_view known : {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
    if (ending == known) return true;
  return false;
}

std::vector<FrameName> list_names(const std::string& folder, std::string_view source) {
  std::vector<FrameName> names;
  std::error_code error;
  for (fs::directory_iterator next(folder, error), end; !error && next != end; next.increment(error)) {
    const std::string name = next->path().filename().string();
    if (name.starts_with('.')) continue;
    names.push_back(split_name(name));
    if (!is_image_ending(names.back().ending) || names.back().number < 0)
      throw Error(source, ": folder of frames '", folder, "': '", name.substr(0, 200),
                  "' is no image whose name ends with a number, such as frame_0001.jpg");
    if (names.size() > kMaxFiles) throw Error(source, ": folder of frames '", folder, "': over ", kMaxFiles, " files");
  }
  if (error) throw Error(ErrorKind::kIo, source, ": folder of frames '", folder, "': ", error.message());
  if (names.empty()) throw Error(source, ": folder of frames '", folder, "' is empty");
  return names;
}

}  // namespace

std::vector<std::int64_t> choose_frames(std::int64_t num_frames, double fps, const VideoSettings& video) {
  std::int64_t count = video.num_frames;
  if (video.takes_all) count = num_frames;
  if (video.fps) {
    const double wanted = static_cast<double>(num_frames) / fps * *video.fps;
    count = wanted < static_cast<double>(num_frames) ? std::max<std::int64_t>(1, static_cast<std::int64_t>(wanted))
                                                     : num_frames;
  }
  count = std::min(count, num_frames);
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < count; ++i) indices.push_back(i * num_frames / count);
  return indices;
}

std::string frame_time(std::int64_t idx, double fps) {
  const double seconds = static_cast<double>(idx) / fps;
  const double rest = std::fmod(seconds, 60.0);
  char text[48];
  std::snprintf(text, sizeof text, "%02lld:%02lld", static_cast<long long>((seconds - rest) / 60.0 + 0.5),
                static_cast<long long>(rest));
  return text;
}

std::vector<std::string> frame_files(const std::string& folder, std::string_view source) {
  std::vector<FrameName> names = list_names(folder, source);
  std::ranges::sort(names, {}, &FrameName::number);
  for (std::size_t i = 1; i < names.size(); ++i) {
    const FrameName &before = names[i - 1], &here = names[i];
    const auto refuse = [&](std::string_view why) {
      throw Error(source, ": folder of frames '", folder, "': ", why, " '", before.name.substr(0, 200), "' and '",
                  here.name.substr(0, 200), "'; give the files as a list, in their order, if that is what is meant");
    };
    if (here.stem != before.stem || here.ending != before.ending) refuse("names of two kinds:");
    if (here.number == before.number) refuse("a number twice:");
    if (here.number != before.number + 1) refuse("frames are missing between");
  }
  std::vector<std::string> paths;
  for (const FrameName& name : names) paths.push_back((fs::path(folder) / name.name).string());
  return paths;
}

}  // namespace bezel::data
