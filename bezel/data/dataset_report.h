#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bezel::data {

/// How often something was met, and where first.
struct Noted {
  std::size_t count = 0;
  std::string first{};  ///< "file:line"

  void add(std::size_t times, const std::string& source);
};

/// What was left out when the file was read.
struct DatasetReport {
  std::size_t num_lines = 0;
  std::size_t num_bad = 0;
  std::vector<std::string> bad;  ///< messages "file:line: ..." of the first 100
  std::size_t num_too_long = 0;
  std::string first_too_long{};  ///< "file:line"
  std::size_t num_cut = 0;       ///< kept, but without their end
  std::size_t num_tokens = 0;
  std::size_t num_labels = 0;
  Noted thoughts;          ///< messages whose thoughts the chat template leaves out
  Noted added_requests;    ///< media with their text whose request is Bezel's
  Noted empty_answers;     ///< answers without a word
  Noted long_audio_clips;  ///< audio clips that go on behind what is read
};

/// One sentence for each kind of thing that is left out or teaches nothing although no line is bad: overlong samples,
/// thoughts, empty answers, audio clips longer than `max_seconds`. Each gives a number and the first line.
std::vector<std::string> describe_left_out(const DatasetReport& report, std::size_t max_seq_length,
                                           std::int64_t max_seconds);

}  // namespace bezel::data
