#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bezel::data {

/// The place of one sample in a file.
struct TextRange {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  std::size_t number = 0;  ///< of the line where it begins, from 1
};

/// How the samples of a JSON file are separated.
enum class JsonLayout {
  kLines,    ///< one value a line
  kArray,    ///< elements of one array
  kObjects,  ///< objects over several lines, one after the other
};

/// Layout of a file that begins with `head`, without a byte order mark. A first line that is cut off is no reason to
/// take the file for one of objects over several lines: what follows must continue the object.
JsonLayout find_json_layout(std::string_view head);

/// Finds the samples of a file of layout kArray or kObjects in one pass; keeps no text. Brackets must match, so that no
/// sample becomes part of another; the JSON inside a sample is not checked.
class JsonElements {
 public:
  /// `path` names the file in errors.
  JsonElements(JsonLayout layout, std::string path) : layout_(layout), path_(std::move(path)) {}

  /// Reads the next bytes, which begin at `offset` of the file. Throws Error "path:line: ..." where an element does not
  /// end as it should.
  void feed(std::string_view chunk, std::uint64_t offset);
  /// Ends the file. Throws Error when something is open.
  std::vector<TextRange> finish();

 private:
  enum class Next { kArrayBegin, kElementOrEnd, kElement, kCommaOrEnd, kNothing };

  void read_in_string(char c);
  void read_between(char c, std::uint64_t offset);
  void read_inside(char c, std::uint64_t offset);
  void begin_element(char c, std::uint64_t offset);
  [[noreturn]] void fail(std::string_view what) const;

  JsonLayout layout_;
  std::string path_;
  std::vector<TextRange> elements_;
  TextRange open_;
  std::string stack_;  // brackets that are open inside the element
  Next next_ = layout_ == JsonLayout::kArray ? Next::kArrayBegin : Next::kElementOrEnd;
  std::size_t line_ = 1;
  char last_ = '\0';  // last character inside the element that is no blank
  bool in_string_ = false;
  bool escaped_ = false;
};

}  // namespace bezel::data
