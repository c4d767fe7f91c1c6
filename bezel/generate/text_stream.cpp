#include "bezel/generate/text_stream.h"

#include <string_view>

namespace bezel::generate {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // what a byte that is no UTF-8 decodes to
constexpr std::size_t kLongestCharacter = 4;               // bytes, hence byte tokens

}  // namespace

std::string TextStream::push(std::int64_t token) {
  if (token < 0 || token >= tokenizer_.vocab_size()) return "";
  held_.push_back(token);
  const std::string text = tokenizer_.decode(held_, skip_special_);
  if (text.ends_with(kReplacement) && held_.size() < kLongestCharacter) return "";
  held_.clear();
  return text;
}

std::string TextStream::finish() {
  const std::string text = tokenizer_.decode(held_, skip_special_);
  held_.clear();
  return text;
}

}  // namespace bezel::generate
