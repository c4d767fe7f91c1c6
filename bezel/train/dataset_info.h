#pragma once

#include <string>
#include <vector>

#include "bezel/train/config.h"

namespace bezel::train {

/// The files that LLaMA-Factory's `dataset` names: those of `names` in `dir`/dataset_info.json, with their columns and
/// tags; the name of a file or folder is used as a path. `key` names the setting in errors. Throws Error (kConfig)
/// for a name that is not listed (with the nearest ones), for data sets of the hub and other keys that
/// mean something else than samples of a file.
std::vector<DatasetEntry> find_named_datasets(const std::vector<std::string>& names, const std::string& dir,
                                              const std::string& key);

}  // namespace bezel::train
