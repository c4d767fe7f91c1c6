#include "bezel/data/csv.h"

#include <algorithm>
#include <set>

#include "bezel/error.h"
#include "bezel/io/json.h"

namespace bezel::data {
namespace {

constexpr std::string_view kTextColumns[] = {"text", "instruction", "input", "output", "system"};
constexpr std::size_t kMaxCellBytes = std::size_t{64} << 20;

// The list or object in a cell, or its text.
io::Json cell_value(const std::string& column, const std::string& cell, std::string_view source) {
  const bool is_text = std::find(std::begin(kTextColumns), std::end(kTextColumns), column) != std::end(kTextColumns);
  if (is_text || (cell[0] != '[' && cell[0] != '{')) return cell;
  io::Json value;
  try {
    io::JsonLimits limits;
    limits.max_bytes = kMaxCellBytes;
    limits.keeps_big_integers = true;
    value = io::parse_json(cell, source, limits);
  } catch (const Error&) {
    return cell;  // a text that begins with a bracket; a column that must be a list refuses it by name
  }
  const bool may_be_text = column == "prompt" || column == "completion";
  if (may_be_text && !(value.is_array() && !value.empty() && value[0].is_object())) return cell;
  return value;
}

}  // namespace

bool is_csv_path(std::string_view path) {
  if (path.ends_with(".gz")) path.remove_suffix(3);
  return path.ends_with(".csv") || path.ends_with(".tsv");
}

void CsvRecords::end_record(std::uint64_t end) {
  record_.bytes = end - record_.begin;
  if (!blank_) records_.push_back(record_);
  state_ = State::kCellBegin;
  blank_ = true;
}

void CsvRecords::feed(std::string_view chunk, std::uint64_t offset) {
  if (!has_begun_) record_.begin = offset;  // behind a byte order mark
  has_begun_ = true;
  for (const char c : chunk) {
    if (c == '\n') ++line_;
    if (state_ == State::kQuoted) {
      if (c == '"') state_ = State::kQuoteSeen;
    } else if (c == '\n') {
      end_record(offset);
      record_ = {offset + 1, 0, line_};
    } else if (c == separator_) {
      state_ = State::kCellBegin;
      blank_ = false;
    } else if (c == '"' && state_ != State::kPlain) {
      state_ = State::kQuoted;
      blank_ = false;
    } else if (state_ == State::kQuoteSeen && c != '\r') {
      throw Error(path_, ":", line_, ": text behind a closing quote; a quote inside a quoted cell is written twice");
    } else if (c != '\r') {
      state_ = State::kPlain;
      blank_ = blank_ && (c == ' ' || c == '\t');
    }
    ++offset;
  }
}

std::vector<TextRange> CsvRecords::finish(std::uint64_t end) {
  if (state_ == State::kQuoted)
    throw Error(path_, ":", record_.number, ": a quote that opens in the record of this line is never closed");
  end_record(end);
  return std::move(records_);
}

char csv_separator(std::string_view header) {
  for (const char c : {',', '\t', ';'})
    if (header.find(c) != std::string_view::npos) return c;
  return ',';
}

std::vector<std::string> csv_cells(std::string_view record, char separator) {
  if (record.ends_with('\r')) record.remove_suffix(1);
  std::vector<std::string> cells(1);
  bool quoted = false, begin = true;
  for (std::size_t i = 0; i < record.size(); ++i) {
    const char c = record[i];
    if (quoted && c == '"' && i + 1 < record.size() && record[i + 1] == '"') {
      cells.back() += record[++i];
    } else if (c == '"' && (quoted || begin)) {
      quoted = !quoted;
      begin = false;
    } else if (c == separator && !quoted) {
      cells.emplace_back();
      begin = true;
    } else {
      cells.back() += c;
      begin = false;
    }
  }
  return cells;
}

std::vector<std::string> csv_columns(std::string_view header, char separator, std::string_view source) {
  std::vector<std::string> columns = csv_cells(header, separator);
  std::set<std::string_view> seen;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].empty())
      throw Error(source, ": column ", i + 1, " of the header has no name; the first row must name the columns");
    if (!seen.insert(columns[i]).second)
      throw Error(source, ": the header names column '", columns[i], "' twice; the first row must name the columns");
  }
  return columns;
}

std::string csv_to_json(std::string_view record, char separator, const std::vector<std::string>& columns,
                        std::string_view source) {
  const std::vector<std::string> cells = csv_cells(record, separator);
  if (cells.size() != columns.size())
    throw Error(source, ": ", cells.size(), " cells, but the header names ", columns.size(),
                " columns; a cell that holds a separator or a line end stands in quotes");
  io::Json row = io::Json::object();
  for (std::size_t i = 0; i < cells.size(); ++i)
    if (!cells[i].empty()) row[columns[i]] = cell_value(columns[i], cells[i], source);
  try {
    return io::dump_json(row, source);
  } catch (const Error& error) {
    throw Error(error.what(), "; convert it: iconv -f WINDOWS-1252 -t UTF-8");
  }
}

}  // namespace bezel::data
