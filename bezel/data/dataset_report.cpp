#include "bezel/data/dataset_report.h"

#include <string_view>

namespace bezel::data {
namespace {

// "3 answers are", "1 answer is".
std::string counted_are(std::size_t count, std::string_view one, std::string_view many) {
  return std::to_string(count) + " " + std::string(count == 1 ? one : many) + (count == 1 ? " is" : " are");
}

std::string first_at(const std::string& source) { return " (first: " + source + ")"; }

}  // namespace

void Noted::add(std::size_t times, const std::string& source) {
  if (times > 0 && count == 0) first = source;
  count += times;
}

std::vector<std::string> describe_left_out(const DatasetReport& report, std::size_t max_seq_length,
                                           std::int64_t max_seconds) {
  std::vector<std::string> out;
  if (report.num_too_long > 0)
    out.push_back(counted_are(report.num_too_long, "sample", "samples") + " left out: longer than max_seq_length " +
                  std::to_string(max_seq_length) + " and cannot be cut" + first_at(report.first_too_long));
  if (report.thoughts.count > 0)
    out.push_back("thoughts of " + std::to_string(report.thoughts.count) +
                  (report.thoughts.count == 1 ? " message" : " messages") +
                  " are not learned: the chat template leaves them out" + first_at(report.thoughts.first));
  if (report.empty_answers.count > 0)
    out.push_back(counted_are(report.empty_answers.count, "answer", "answers") +
                  " empty: the model learns to end its turn without a word" + first_at(report.empty_answers.first));
  if (report.added_requests.count > 0)
    out.push_back(counted_are(report.added_requests.count, "medium with its text", "media with their text") +
                  " asked \"Describe the image.\" or \"Transcribe the audio.\"; a column 'prompt' asks otherwise" +
                  first_at(report.added_requests.first));
  if (report.long_audio_clips.count > 0)
    out.push_back(counted_are(report.long_audio_clips.count, "audio clip", "audio clips") + " longer than " +
                  std::to_string(max_seconds) + " s, and the rest is not heard: split audio clip and transcript" +
                  first_at(report.long_audio_clips.first));
  return out;
}

}  // namespace bezel::data
