#pragma once

#include <map>
#include <string>
#include <vector>

#include "bezel/io/json.h"
#include "bezel/train/config.h"

namespace bezel::train {

/// What the numbers of a run depend on, in words that can be compared later.
struct RunFacts {
  std::map<std::string, std::string> config;   ///< key: value, of the keys that change the numbers
  std::map<std::string, std::string> inputs;   ///< file or data set: SHA-256
  std::map<std::string, std::string> machine;  ///< device, threads, LibTorch, CPU: may change the last bits
};

/// The keys of a config that change what is learnt; paths, intervals and how the work is done are left out.
std::map<std::string, std::string> config_facts(const TrainConfig& config);

/// The files of a checkpoint folder that base_facts() is about. Throws Error when the weights cannot be opened.
std::vector<std::string> base_files(const std::string& folder, const std::string& mmproj = "");

/// SHA-256 of config.json, tokenizer.json and the other small files of a checkpoint folder by their names, and of the
/// weights: every header, every file's size, and of every tensor 4 KiB at its begin, middle and end. Reads no more of
/// them: hashing the whole would take longer than many a run.
std::map<std::string, std::string> base_facts(const std::string& folder, const std::string& mmproj = "");

/// One line for each key of `was` and `now` that differs: "seed: was 42, is 7".
std::vector<std::string> differences(const std::map<std::string, std::string>& was,
                                     const std::map<std::string, std::string>& now);

io::Json to_json(const RunFacts& facts);
/// Throws Error naming the key when one is missing or of another type.
RunFacts read_run_facts(const io::JsonView& json);

}  // namespace bezel::train
