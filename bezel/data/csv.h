#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bezel/data/json_elements.h"

namespace bezel::data {

/// Whether `path` is named as a table in text: .csv or .tsv, also with .gz behind it.
bool is_csv_path(std::string_view path);

/// Finds the records of a CSV file (RFC 4180) in one pass; keeps no text. Quoted cells may hold line ends.
class CsvRecords {
 public:
  /// `path` names the file in errors; `separator` separates cells.
  CsvRecords(char separator, std::string path) : separator_(separator), path_(std::move(path)) {}

  /// Reads the next bytes, which begin at `offset` of the file. Throws Error "path:line: ..." where text follows a
  /// closing quote.
  void feed(std::string_view chunk, std::uint64_t offset);
  /// Ends the file at `end`: the records that are not blank. Throws Error when a quote is open.
  std::vector<TextRange> finish(std::uint64_t end);

 private:
  enum class State { kCellBegin, kPlain, kQuoted, kQuoteSeen };

  void end_record(std::uint64_t end);

  char separator_;
  std::string path_;
  std::vector<TextRange> records_;
  TextRange record_{0, 0, 1};
  State state_ = State::kCellBegin;
  std::size_t line_ = 1;
  bool blank_ = true;
  bool has_begun_ = false;
};

/// The separator of a table whose first line is `header`: a comma, or without commas a tab or
/// semicolon.
char csv_separator(std::string_view header);

/// Cells of one record, without quotes.
std::vector<std::string> csv_cells(std::string_view record, char separator);

/// Names of a table's columns. Throws Error, which begins with `source`, when one is empty or occurs twice.
std::vector<std::string> csv_columns(std::string_view header, char separator, std::string_view source);

/// A record as a JSON object, its keys the `columns`. Empty cells are left out. A cell that holds a JSON list or object
/// is one, except in columns of plain text (text, instruction, input, output, system); in prompt and completion only a
/// list of objects is. Throws Error when the number of cells is not that of the columns.
std::string csv_to_json(std::string_view record, char separator, const std::vector<std::string>& columns,
                        std::string_view source);

}  // namespace bezel::data
