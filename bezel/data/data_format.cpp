#include "bezel/data/data_format.h"

#include "bezel/error.h"

namespace bezel::data {
namespace {

struct Magic {
  std::size_t at;
  std::string_view bytes;
  std::string_view kind;
  std::string_view remedy;  ///< PATH stands for the file
};

using namespace std::string_view_literals;

constexpr std::string_view kPandas = "python3 -c \"import pandas; pandas.";
constexpr Magic kMagics[] = {
    {0, "PAR1"sv, "a Parquet file",
     "read_parquet('PATH').to_json('train.jsonl', orient='records', lines=True, force_ascii=False)\""},
    {0, "ARROW1\0\0"sv, "an Arrow file",
     "read_feather('PATH').to_json('train.jsonl', orient='records', lines=True, force_ascii=False)\""},
    {0, "\xff\xff\xff\xff"sv, "an Arrow stream, as datasets' save_to_disk writes it",
     "python3 -c \"import datasets; datasets.Dataset.from_file('PATH').to_json('train.jsonl', force_ascii=False)\""},
    {0, "SQLite format 3\0"sv, "an SQLite database", "sqlite3 -json 'PATH' 'select * from TABLE' > train.json"},
    {0, "PK\x03\x04"sv, "a zip archive", "unpack it first: unzip 'PATH'"},
    {257, "ustar"sv, "a tar archive", "unpack it first: tar -xf 'PATH'"},
    {0, "\x28\xb5\x2f\xfd"sv, "a file compressed by zstd", "unpack it first: zstd -d 'PATH'"},
    {0, "BZh"sv, "a file compressed by bzip2", "unpack it first: bunzip2 -k 'PATH'"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "a file compressed by xz", "unpack it first: unxz -k 'PATH'"},
    {0, "version https://git-lfs"sv, "a Git LFS pointer, not the file itself", "fetch it first: git lfs pull"},
};

[[noreturn]] void refuse(std::string_view kind, std::string remedy, const std::string& path) {
  if (const auto at = remedy.find("PATH"); at != std::string::npos) remedy.replace(at, 4, path);
  throw Error(path, ": ", kind, "; Bezel reads JSON Lines, JSON, CSV and their .gz in UTF-8. ", remedy);
}

std::string to_utf8(std::string_view encoding) {
  return "Convert it: iconv -f " + std::string(encoding) + " -t UTF-8 'PATH' > train.jsonl";
}

}  // namespace

bool is_gzip(std::string_view head) { return head.starts_with("\x1f\x8b"); }

void refuse_other_formats(std::string_view head, const std::string& path) {
  // Sheets are zip archives that hold xl/; the directory at the end has its name, so the suffix is asked too.
  if (head.starts_with("PK\x03\x04") && (path.ends_with(".xlsx") || head.find("xl/") != std::string_view::npos))
    refuse("an Excel workbook",
           "Convert it: " + std::string(kPandas) +
               "read_excel('PATH').to_json('train.jsonl', orient='records', lines=True, force_ascii=False)\"",
           path);
  if (head.starts_with("\xff\xfe\0\0"sv) || head.starts_with("\0\0\xfe\xff"sv))
    refuse("text in UTF-32", to_utf8("UTF-32"), path);
  if (head.starts_with("\xff\xfe") || head.starts_with("\xfe\xff")) refuse("text in UTF-16", to_utf8("UTF-16"), path);
  for (const std::string_view begin : {"{"sv, "["sv, "\""sv}) {
    const std::string low = std::string(begin) + '\0', high = '\0' + std::string(begin);
    if (head.starts_with(low)) refuse("text in UTF-16 without a byte order mark", to_utf8("UTF-16LE"), path);
    if (head.starts_with(high)) refuse("text in UTF-16 without a byte order mark", to_utf8("UTF-16BE"), path);
  }
  for (const Magic& magic : kMagics) {
    if (head.size() < magic.at || !head.substr(magic.at).starts_with(magic.bytes)) continue;
    const bool by_pandas = magic.remedy.starts_with("read_");
    refuse(magic.kind, (by_pandas ? "Convert it: " + std::string(kPandas) : "") + std::string(magic.remedy), path);
  }
}

}  // namespace bezel::data
