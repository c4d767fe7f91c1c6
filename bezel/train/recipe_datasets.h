#pragma once

#include <string>
#include <vector>

#include "bezel/train/config.h"
#include "bezel/train/config_yaml.h"

namespace bezel::train {

/// Reads `datasets` as axolotl and TRL write it: a list of maps with `path` and other keys, of paths, or one of
/// them. Adds to `notes` what is read differently here. Throws Error (kConfig) naming the line of a key that is not
/// known or would change what is learnt.
std::vector<DatasetEntry> read_dataset_entries(const ConfigValue& value, std::vector<std::string>& notes);

/// Reads a map from columns of read_sample to columns of the data set. LLaMA-Factory's names of them (query, response;
/// with these prompt means the instruction) are known as well.
data::ColumnMap::Names read_columns(const ConfigValue& value);

/// Reads message_property_mappings: keys of a message to keys of the data set's messages.
data::ColumnMap::Names read_message_keys(const ConfigValue& value);

/// Reads `roles`: roles to the list of those of the data set.
data::ColumnMap::Names read_roles(const ConfigValue& value);

/// The same as YAML.
std::string show_entries(const std::vector<DatasetEntry>& entries);
std::string show_names(const data::ColumnMap::Names& names);
std::string show_roles(const data::ColumnMap::Names& roles);

/// Takes "train[:100]" or "train[:10%]" apart. Throws Error (kConfig) beginning with `where` on another slice or split.
void set_split(DatasetEntry& entry, const std::string& split, const std::string& where);

/// `columns` under LLaMA-Factory's names with those of read_sample.
std::string known_column(const std::string& name, bool is_instruction);

}  // namespace bezel::train
