#include "bezel/io/placeholder_file.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "bezel/error.h"

namespace bezel::io {
namespace {

bool begins_with(std::string_view text, std::string_view lower_case) {
  if (text.size() < lower_case.size()) return false;
  return std::equal(lower_case.begin(), lower_case.end(), text.begin(),
                    [](char wanted, char found) { return wanted == std::tolower(static_cast<unsigned char>(found)); });
}

constexpr std::array<std::string_view, 4> kPages = {"<!doctype html", "<html", "<?xml", "<head"};
constexpr std::array<std::string_view, 4> kAnswers = {"entry not found", "invalid username or password",
                                                      "repository not found", "access to model"};

}  // namespace

void refuse_placeholder(const std::string& path, std::string_view begin) {
  if (begins_with(begin, "version https://git-lfs") || begins_with(begin, "version http://git-media"))
    throw Error(path, ": a Git LFS pointer, which stands for the file and does not hold it; run `git lfs pull` in its ",
                "folder, or download the file again");
  if (begins_with(begin, "# xet version"))
    throw Error(path, ": a Xet pointer, which stands for the file and does not hold it; download the file again");
  begin.remove_prefix(std::min(begin.find_first_not_of(" \t\r\n"), begin.size()));
  const auto begins = [&](std::string_view page) { return begins_with(begin, page); };
  if (std::ranges::any_of(kPages, begins))
    throw Error(path, ": a web page, not the file itself; download the file again (on a hub take the link that says ",
                "'resolve' or 'download', and log in where the model asks for it)");
  if (std::ranges::any_of(kAnswers, begins))
    throw Error(path, ": the text '", begin.substr(0, begin.find_first_of("\r\n")).substr(0, 60),
                "', which a hub answered instead of the file; log in, accept the model's terms and download it again");
}

}  // namespace bezel::io
