#pragma once

#include <string>

namespace bezel::data {

/// The files of a folder of samples.
struct FolderFiles {
  std::string train;
  std::string held_out;    ///< "" where the folder has none
  std::string test;        ///< "" where the folder has none; nothing reads it unasked
  std::string media_root;  ///< the folder of `train`
};

/// Finds train, held-out (valid, validation, val, dev, eval) and test files in `folder`, named NAME.jsonl, .json, .csv
/// or .tsv, also with .gz behind it, or NAME/metadata.jsonl or .csv as HF's image folders have it; a metadata file in
/// the folder itself is its train file. Throws Error (kConfig) when there is no train file, or when two files could be
/// the same one; the message names what the folder holds. The held-out file is looked for only with `wants_held_out`.
FolderFiles find_folder_files(const std::string& folder, bool wants_held_out = true);

/// The held-out file of `folder`, by the names of find_folder_files(), or else its test file. Throws Error (kConfig)
/// when there is none, with what the folder holds, and when there are several.
std::string find_evaluation_file(const std::string& folder);

}  // namespace bezel::data
