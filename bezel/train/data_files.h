#pragma once

#include <string>
#include <vector>

#include "bezel/data/sample_files.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// The files of a run's samples.
struct DataFiles {
  std::vector<data::SampleFile> train;
  std::vector<data::SampleFile> eval;  ///< empty: no file, or held out of `train`
};

/// Finds the files that train_file, datasets or dataset name, and those of eval_file, test_datasets or eval_dataset. A
/// folder means its train file and, as train_file without eval_file and val_set_size, its held-out file; see
/// data::find_folder_files. Media are below media_root, else beside their file. Throws Error (kConfig) naming what is
/// missing.
DataFiles find_data_files(const TrainConfig& config);

/// The names of the training files, for titles: "a.jsonl, b.jsonl".
std::string train_data_names(const TrainConfig& config);

}  // namespace bezel::train
