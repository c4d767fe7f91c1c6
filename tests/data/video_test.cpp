#include "bezel/data/video.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "bezel/data/audio_decode.h"
#include "bezel/data/audio_probe.h"
#include "bezel/data/media_video.h"
#include "bezel/data/video_frames.h"
#include "bezel/error.h"
#include "bezel/io/regular_file.h"
#include "support/media_files.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::says;
using Indices = std::vector<std::int64_t>;

std::string clip(const std::string& name) { return std::string(BEZEL_TEST_DATA "/video/") + name; }

Video open(const std::string& path, const VideoSettings& settings = {}) {
  return Video(MediaFile{.path = path, .name = path}, settings);
}

std::vector<RgbImage> decode(Video video) {
  std::vector<RgbImage> frames;
  video.decode([&](RgbImage frame) { frames.push_back(std::move(frame)); });
  return frames;
}

std::string refusal(const std::string& path) {
  return error_of([&] { decode(open(path)); });
}

std::string png_bytes(int width, int height) {
  const std::string row = std::string(1, '\0') + std::string(static_cast<std::size_t>(3 * width), 'x');
  test::PngParts parts{.width = static_cast<std::uint32_t>(width), .height = static_cast<std::uint32_t>(height)};
  for (int y = 0; y < height; ++y) parts.rows += row;
  return test::make_png(parts);
}

void write(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

TEST(VideoFrames, IndicesAreSpreadOverAllFrames) {
  EXPECT_EQ(choose_frames(10, 1.0, {.num_frames = 4}), (Indices{0, 2, 5, 7}));
  EXPECT_EQ(choose_frames(3, 1.0, {.num_frames = 32}), (Indices{0, 1, 2})) << "a short clip has all of them";
  EXPECT_EQ(choose_frames(100, 1.0, {}).back(), 96);
  EXPECT_EQ(choose_frames(3, 1.0, {.num_frames = 1, .takes_all = true}).size(), 3u);
}

TEST(VideoFrames, ARateTakesAsManyAsItsSeconds) {
  EXPECT_EQ(choose_frames(144, 24.0, {.fps = 1.0}), (Indices{0, 24, 48, 72, 96, 120}));
  EXPECT_EQ(choose_frames(10, 24.0, {.fps = 1.0}), (Indices{0})) << "at least one";
  EXPECT_EQ(choose_frames(10, 24.0, {.fps = 1000.0}).size(), 10u) << "at most all";
}

TEST(VideoFrames, TimesAreMinutesAndSeconds) {
  EXPECT_EQ(frame_time(0, 24.0), "00:00");
  EXPECT_EQ(frame_time(24, 24.0), "00:01");
  EXPECT_EQ(frame_time(1439, 24.0), "00:59");
  EXPECT_EQ(frame_time(1440, 24.0), "01:00");
  EXPECT_EQ(frame_time(7300, 1.0), "121:40");
}

TEST(VideoFrames, AFolderOfFramesHasNoGap) {
  const test::TempFolder folder;
  const auto files = [&] { return frame_files(folder.path(), "t.jsonl:1"); };
  EXPECT_TRUE(says(error_of(files), "is empty"));
  for (const char* name : {"f_10.png", "f_9.png", "f_11.png", ".hidden"}) write(folder / name, "x");
  const auto found = files();
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(fs::path(found[0]).filename(), "f_9.png") << "by number, not by name";
  write(folder / "f_13.png", "x");
  EXPECT_TRUE(says(error_of(files), "frames are missing between 'f_11.png' and 'f_13.png'"));
  write(folder / "f_12.png", "x");
  write(folder / "f_0012.png", "x");
  EXPECT_TRUE(says(error_of(files), "a number twice"));
  fs::remove(folder / "f_0012.png");
  write(folder / "g_14.png", "x");
  EXPECT_TRUE(says(error_of(files), "names of two kinds"));
  fs::remove(folder / "g_14.png");
  write(folder / "notes.txt", "x");
  EXPECT_TRUE(says(error_of(files), "'notes.txt' is no image whose name ends with a number"));
}

TEST(VideoFrames, FramesInFilesHaveOneSizeAndARate) {
  const test::TempFolder folder;
  write(folder / "1.png", png_bytes(4, 2));
  write(folder / "2.png", png_bytes(4, 2));
  write(folder / "3.png", png_bytes(2, 2));
  const std::vector<std::string> good = {folder / "1.png", folder / "2.png"};
  const Video video(good, 2.0, "v", {});
  EXPECT_EQ(video.info().num_frames, 2);
  EXPECT_EQ(video.times(), (std::vector<std::string>{"00:00", "00:00"}));
  EXPECT_EQ(decode(Video(good, 2.0, "v", {})).size(), 2u);
  EXPECT_TRUE(says(error_of([&] { decode(Video({good[0], folder / "3.png"}, 2.0, "v", {})); }), "have one size"));
  EXPECT_TRUE(says(error_of([&] { Video(good, 0.0, "v", {}); }), "'fps'"));
  EXPECT_TRUE(says(error_of([&] { Video(good, std::nan(""), "v", {}); }), "'fps'"));
}

TEST(VideoFrames, AFolderIsFoundBelowTheRootAlone) {
  const test::TempFolder folder;
  fs::create_directory(folder / "frames");
  write(folder / "frames/1.png", png_bytes(4, 2));
  const auto find = [&](MediaSource source) { return find_video(source, folder.path(), "t.jsonl:1"); };
  const MediaSource frames{.kind = MediaKind::kVideo, .path = "frames", .fps = 2.0};
  EXPECT_EQ(find(frames).paths.size(), 1u);
  EXPECT_TRUE(says(error_of([&] { find({.kind = MediaKind::kVideo, .path = "frames"}); }), "needs their rate"));
  EXPECT_TRUE(says(error_of([&] { find({.kind = MediaKind::kVideo, .path = "frames/1.png", .fps = 2.0}); }),
                   "video_fps in the config"));
  EXPECT_TRUE(says(error_of([&] { find({.kind = MediaKind::kVideo, .path = "http://a/b.mp4"}); }), "is a URL"));
  fs::create_symlink("/etc/hostname", folder / "frames/2.png");
  EXPECT_TRUE(says(error_of([&] { find(frames); }), "leads out of the media root"));
}

/// Those that need FFmpeg's libraries.
class VideoFile : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_video_decoder()) GTEST_SKIP() << "FFmpeg's libraries are not there";
  }
  test::TempFolder folder_;
};

// What each clip tests: docs/video.md and tests/parity/video_parity.py, which compares pixels.
TEST_F(VideoFile, PacketsAreCountedAsTheyAreShown) {
  const auto count = [](const char* name) { return open(clip(name)).info().num_frames; };
  EXPECT_EQ(count("a.mp4"), 144);
  EXPECT_EQ(count("cut.mp4"), 112) << "an edit list hides 32";
  EXPECT_EQ(count("short.mp4"), 24);
  EXPECT_DOUBLE_EQ(open(clip("a.mp4")).info().fps, 24.0);
  EXPECT_NEAR(open(clip("vfr.mp4")).info().fps, 74.0 / 6.0, 1e-12);
  EXPECT_NEAR(open(clip("a.mkv")).info().fps, 24.0040, 1e-4) << "its durations are whole milliseconds";
}

TEST_F(VideoFile, PhonesAreTurnedUpright) {
  const Video video = open(clip("rot.mov"));
  EXPECT_EQ(video.info().size, (input::ImageSize{320, 240}));
  const std::vector<RgbImage> turned = decode(open(clip("rot.mov"), {.num_frames = 1}));
  const std::vector<RgbImage> stored = decode(open(clip("a.mp4"), {.num_frames = 1}));
  ASSERT_EQ(turned.at(0).size, (input::ImageSize{320, 240}));
  ASSERT_EQ(stored.at(0).size, (input::ImageSize{240, 320}));
  // The same pictures: a quarter turn against the clock brings the last column to the first row.
  for (std::size_t x = 0; x < 240; ++x)
    for (std::size_t c = 0; c < 3; ++c)
      ASSERT_EQ(turned[0].pixels[3 * x + c], stored[0].pixels[3 * (x * 320 + 319) + c]) << x;
}

TEST_F(VideoFile, SeekingGivesWhatDecodingInOrderGives) {
  for (const char* name : {"a.mp4", "a.mkv", "b.webm", "c.gif", "cut.mp4", "vfr.mp4"}) {
    const std::vector<RgbImage> all = decode(open(clip(name), {.takes_all = true}));
    for (const std::int64_t wanted : {2, 3, 7}) {
      Video some = open(clip(name), {.num_frames = wanted});
      const Indices indices = some.indices();
      const std::vector<RgbImage> frames = decode(std::move(some));
      ASSERT_EQ(frames.size(), indices.size());
      for (std::size_t i = 0; i < frames.size(); ++i)
        EXPECT_TRUE(frames[i].pixels == all[static_cast<std::size_t>(indices[i])].pixels) << name << " " << indices[i];
    }
  }
}

TEST_F(VideoFile, BytesAreReadAsTheFileIs) {
  const std::string bytes = io::read_text_file(clip("short.mp4"));
  const Video video(MediaFile{.path = "", .bytes = bytes, .name = "t"}, {});
  EXPECT_EQ(video.info().num_frames, 24);
}

TEST_F(VideoFile, TruncatedFilesAreRefused) {
  for (const char* name : {"a.mp4", "a.mkv", "b.webm", "rot.mov"}) {
    const std::string bytes = io::read_text_file(clip(name));
    for (const double share : {0.001, 0.1, 0.5, 0.9, 0.999}) {
      const std::string path = folder_ / name;
      write(path, bytes.substr(0, static_cast<std::size_t>(share * static_cast<double>(bytes.size()))));
      EXPECT_FALSE(refusal(path).empty()) << name << " at " << share;
    }
  }
}

TEST_F(VideoFile, OnlyVideosOfTheListAreOpened) {
  const std::string path = folder_ / "v.mp4";
  const auto refused = [&](const std::string& bytes) {
    write(path, bytes);
    return refusal(path);
  };
  EXPECT_TRUE(says(refused(""), "the file is empty"));
  EXPECT_TRUE(says(refused("no video"), "not a media file that Bezel reads"));
  const std::string target = clip("a.mp4");
  EXPECT_FALSE(refused("ffconcat version 1.0\nfile '" + target + "'\n").empty());
  EXPECT_FALSE(
      refused("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nfile://" + target + "\n").empty());
  EXPECT_FALSE(refused("<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></MPD>").empty());
  EXPECT_FALSE(refused(test::make_wav(1, 1, 16000, 16, std::string(64000, '\0'))).empty());
  EXPECT_FALSE(refused("concat:" + target).empty());
  EXPECT_FALSE(refusal("concat:" + target).empty()) << "a path is the name of a file and nothing else";
  EXPECT_TRUE(says(refused(png_bytes(4, 2)), "format 'png_pipe'"));
}

TEST_F(VideoFile, FlippedBytesNeverCrash) {
  for (const char* name : {"short.mp4", "c.gif"}) {
    const std::string bytes = io::read_text_file(clip(name));
    for (std::size_t at = 0; at < bytes.size(); at += bytes.size() / 60 + 1) {
      std::string bad = bytes;
      bad[at] = static_cast<char>(bad[at] ^ 0x5A);
      try {
        decode(Video(MediaFile{.path = "", .bytes = bad, .name = "t"}, {.num_frames = 2}));
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace bezel::data
