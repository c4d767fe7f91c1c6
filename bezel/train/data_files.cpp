#include "bezel/train/data_files.h"

#include <algorithm>
#include <filesystem>

#include "bezel/data/data_folder.h"
#include "bezel/error.h"
#include "bezel/io/hub_cache.h"
#include "bezel/train/dataset_info.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

void require_file(const std::string& path, const std::string& named, const std::string& where) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return;
  if (fs::exists(path, error)) throw Error(ErrorKind::kConfig, where, " '", named, "': ", path, " is no file");
  const bool is_hub = io::is_hub_id(named);
  throw Error(ErrorKind::kConfig, where, " '", named, "': no such file or folder",
              is_hub ? "; a data set of the Hugging Face hub is not downloaded: save it as JSON Lines, "
                       "`python3 -c \"import datasets; datasets.load_dataset('" +
                           named +
                           "', split='train').to_json('train.jsonl', force_ascii=False)\"`, and write "
                           "train_file: train.jsonl"
                     : "");
}

// The file of a folder that `split` names.
std::string find_split(const std::string& folder, const std::string& split, const std::string& where) {
  const bool held_out =
      split == "validation" || split == "valid" || split == "val" || split == "dev" || split == "eval";
  const data::FolderFiles files = data::find_folder_files(folder, held_out);
  if (split.empty() || split == "train") return files.train;
  const std::string& found = held_out ? files.held_out : files.test;
  if ((held_out || split == "test") && !found.empty()) return found;
  throw Error(ErrorKind::kConfig, where, ": split '", split, "': ", folder, " has no such file");
}

std::vector<data::SampleFile> find_entries(const std::vector<DatasetEntry>& entries, const TrainConfig& config) {
  std::vector<data::SampleFile> files;
  for (const DatasetEntry& entry : entries) {
    data::SampleFile file = entry.file;
    if (is_folder(file.path))
      file.path = find_split(file.path, entry.split, entry.where);
    else if (!entry.split.empty() && entry.split != "train")
      throw Error(ErrorKind::kConfig, entry.where, ": split '", entry.split, "': ", file.path,
                  " is a file, which has no splits; name the file of that split");
    require_file(file.path, entry.file.path, entry.where + ": path");
    if (file.media_root.empty()) file.media_root = config.media_root;
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<data::SampleFile> one_file(const std::string& path, const TrainConfig& config) {
  return {{.path = path, .media_root = config.media_root, .columns = config.columns}};
}

void add_train_file(const TrainConfig& config, DataFiles& files) {
  std::string train = config.train_file;
  if (is_folder(train)) {
    const bool wants_held_out = files.eval.empty() && config.val_set_size == 0;
    const data::FolderFiles found = data::find_folder_files(train, wants_held_out);
    train = found.train;
    if (wants_held_out && !found.held_out.empty()) files.eval = one_file(found.held_out, config);
  }
  require_file(train, config.train_file, "train_file");
  files.train = one_file(train, config);
}

}  // namespace

DataFiles find_data_files(const TrainConfig& config) {
  DataFiles files;
  if (!config.test_datasets.empty()) files.eval = find_entries(config.test_datasets, config);
  if (!config.eval_dataset.empty())
    files.eval = find_entries(find_named_datasets(config.eval_dataset, config.dataset_dir, "eval_dataset"), config);
  if (!config.eval_file.empty()) {
    const std::string path =
        is_folder(config.eval_file) ? find_split(config.eval_file, "validation", "eval_file") : config.eval_file;
    require_file(path, config.eval_file, "eval_file");
    files.eval = one_file(path, config);
  }
  if (!config.train_file.empty()) {
    add_train_file(config, files);
  } else if (!config.datasets.empty()) {
    files.train = find_entries(config.datasets, config);
  } else {
    files.train = find_entries(find_named_datasets(config.dataset, config.dataset_dir, "dataset"), config);
  }
  if (config.max_samples)
    for (auto* list : {&files.train, &files.eval})
      for (data::SampleFile& file : *list)
        file.max_samples = std::min(file.max_samples.value_or(static_cast<std::size_t>(*config.max_samples)),
                                    static_cast<std::size_t>(*config.max_samples));
  return files;
}

std::string train_data_names(const TrainConfig& config) {
  if (!config.train_file.empty()) return fs::path(config.train_file).filename().string();
  std::string names;
  for (const DatasetEntry& entry : config.datasets)
    names += (names.empty() ? "" : ", ") + fs::path(entry.file.path).filename().string();
  for (const std::string& name : config.dataset) names += (names.empty() ? "" : ", ") + name;
  return names;
}

}  // namespace bezel::train
