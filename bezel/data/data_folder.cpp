#include "bezel/data/data_folder.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

#include "bezel/data/data_format.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffixes[] = {".jsonl", ".json", ".csv", ".tsv"};
constexpr std::size_t kMaxNamed = 20;
constexpr std::size_t kHeadBytes = 512;
constexpr std::string_view kTrain[] = {"train"}, kTest[] = {"test"},
                           kHeldOut[] = {"valid", "validation", "val", "dev", "eval"};

void add_with_suffixes(const fs::path& stem, std::vector<std::string>& found) {
  std::error_code error;
  for (const std::string_view suffix : kSuffixes) {
    for (const std::string_view packed : {"", ".gz"}) {
      const fs::path path = stem.string() + std::string(suffix) + std::string(packed);
      if (fs::is_regular_file(path, error)) found.push_back(path.string());
    }
  }
}

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kMaxNamed); ++i) out += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kMaxNamed ? out + ", ..." : out;
}

std::string find_one(const fs::path& folder, std::span<const std::string_view> names, std::string_view key) {
  std::vector<std::string> found;
  for (const std::string_view name : names) {
    add_with_suffixes(folder / name, found);
    add_with_suffixes(folder / name / "metadata", found);
  }
  if (found.size() > 1)
    throw Error(ErrorKind::kConfig, folder.string(), ": holds ", join(found), "; name one of them as ", key);
  return found.empty() ? "" : found[0];
}

// A train file in a format that is not read is refused with the line that converts it.
void refuse_other_train_files(const fs::path& folder) {
  std::error_code error;
  for (const fs::path& place : {folder, folder / "data"})
    for (fs::directory_iterator at(place, error), end; !error && at != end; at.increment(error)) {
      const std::string name = at->path().filename().string();
      std::error_code not_regular;
      if (!name.starts_with("train") || !fs::is_regular_file(at->path(), not_regular)) continue;
      std::string head(kHeadBytes, '\0');
      std::ifstream file(at->path(), std::ios::binary);
      file.read(head.data(), static_cast<std::streamsize>(head.size()));
      head.resize(static_cast<std::size_t>(file.gcount()));
      refuse_other_formats(head, at->path().string());
    }
}

std::string list(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  std::sort(names.begin(), names.end());
  return names.empty() ? "nothing" : join(names);
}

}  // namespace

FolderFiles find_folder_files(const std::string& folder, bool wants_held_out) {
  FolderFiles files{find_one(folder, kTrain, "train_file"), "", find_one(folder, kTest, "eval_file"), ""};
  if (wants_held_out) files.held_out = find_one(folder, kHeldOut, "eval_file");
  if (files.train.empty()) {
    std::vector<std::string> found;
    add_with_suffixes(fs::path(folder) / "metadata", found);
    if (found.size() > 1)
      throw Error(ErrorKind::kConfig, folder, ": holds ", join(found), "; name one of them as train_file");
    if (found.empty()) {
      refuse_other_train_files(folder);
      throw Error(
          ErrorKind::kConfig, folder,
          ": no train file; expected a file train.jsonl, .json or .csv, or metadata.jsonl beside images; found ",
          list(folder));
    }
    files.train = found[0];
  }
  files.media_root = fs::path(files.train).parent_path().string();
  return files;
}

std::string find_evaluation_file(const std::string& folder) {
  std::string found = find_one(folder, kHeldOut, "--data");
  if (found.empty()) found = find_one(folder, kTest, "--data");
  if (!found.empty()) return found;
  throw Error(ErrorKind::kConfig, folder,
              ": no held-out file; expected valid.jsonl, validation, val, dev, eval or test ",
              "as .jsonl, .json, .csv or .tsv; found ", list(folder), "; to evaluate on another file, name it");
}

}  // namespace bezel::data
