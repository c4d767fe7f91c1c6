#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bezel/io/json.h"

namespace bezel::data {

/// The names that a data set gives to what read_sample reads; empty where they are the same.
struct ColumnMap {
  using Names = std::vector<std::pair<std::string, std::string>>;

  Names columns = {};       ///< column of read_sample -> column of the data set
  Names message_keys = {};  ///< "role", "content", "tool_calls" … -> key of the data set's messages
  Names roles = {};  ///< role in the data set -> "user", "assistant", "system", "tool", "function_call", "observation"

  bool empty() const { return columns.empty() && message_keys.empty() && roles.empty(); }
  bool operator==(const ColumnMap&) const = default;
};

/// Columns that a ColumnMap may rename.
std::span<const std::string_view> mapped_columns();

/// The line with its columns, keys of messages and roles under the names that read_sample knows. Where the map names
/// the column of a form of sample (messages, prompt, text …), other columns that would make a form are left out. Throws
/// Error starting with the line's source when a column that the map names is missing.
io::Json apply_column_map(const io::JsonView& line, const ColumnMap& map);

/// The map as text; different maps give different texts.
std::string to_text(const ColumnMap& map);

}  // namespace bezel::data
