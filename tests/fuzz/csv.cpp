// Tables in text: the records of a file, and each as a sample's JSON.
#include "bezel/data/csv.h"

#include "bezel/io/json.h"
#include "fuzz/target.h"

namespace {

using namespace bezel;

std::vector<data::TextRange> records_of(std::string_view text, char separator, std::size_t chunk_bytes) {
  data::CsvRecords records(separator, "input");
  for (std::size_t at = 0; at < text.size(); at += chunk_bytes) records.feed(text.substr(at, chunk_bytes), at);
  return records.finish(text.size());
}

void check_record(std::string_view record, char separator, const std::vector<std::string>& columns) {
  const auto json = fuzz::accepted([&] { return data::csv_to_json(record, separator, columns, "input"); });
  if (!json) return;
  const io::Json row = io::parse_json(*json, "row");
  fuzz::require(row.is_object() && row.size() <= columns.size());
  for (const std::string& column : columns)
    if (const auto cell = row.find(column); cell != row.end()) fuzz::require(!cell->is_null());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text = fuzz::as_text(bytes, size);
  const char separator = data::csv_separator(text.substr(0, text.find('\n')));
  const auto records = fuzz::accepted([&] { return records_of(text, separator, size + 1); });
  // Where a chunk ends changes nothing.
  const auto by_bytes = fuzz::accepted([&] { return records_of(text, separator, 1); });
  fuzz::require(records.has_value() == by_bytes.has_value());
  if (!records || records->empty()) return 0;
  fuzz::require(records->size() == by_bytes->size());
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < records->size(); ++i) {
    const data::TextRange &record = (*records)[i], &other = (*by_bytes)[i];
    fuzz::require(record.begin == other.begin && record.bytes == other.bytes && record.number == other.number);
    fuzz::require(record.begin >= end && record.begin + record.bytes <= size);
    end = record.begin + record.bytes;
  }
  const auto at = [&](std::size_t i) { return text.substr((*records)[i].begin, (*records)[i].bytes); };
  const auto columns = fuzz::accepted([&] { return data::csv_columns(at(0), separator, "input"); });
  for (std::size_t i = 1; columns && i < records->size(); ++i) check_record(at(i), separator, *columns);
  return 0;
}
