// tokenizer.json, and encoding with it. An input is the JSON, a NUL byte, and a text; without JSON in front, the text
// is encoded with the tokenizer of the unit tests.
#include "bezel/data/tokenizer.h"

#include "fuzz/target.h"

namespace {

using namespace bezel;

void check_encoding(const data::Tokenizer& tokenizer, std::string_view text) {
  const auto accepted = fuzz::accepted([&] { return tokenizer.encode(text, true); });
  if (!accepted) return;  // no UTF-8
  const data::Tokenizer::Encoding& encoding = *accepted;
  const std::size_t count = encoding.ids.size();
  fuzz::require(encoding.begin_bytes.size() == count && encoding.end_bytes.size() == count);
  for (std::size_t i = 0; i < count; ++i) {
    fuzz::require(encoding.ids[i] >= 0 && encoding.ids[i] < tokenizer.vocab_size());
    fuzz::require(encoding.begin_bytes[i] <= encoding.end_bytes[i] && encoding.end_bytes[i] <= text.size());
  }
  tokenizer.decode(encoding.ids);
  tokenizer.decode(encoding.ids, true);
}

const data::Tokenizer& usual() {
  static const data::Tokenizer tokenizer = data::Tokenizer::from_file(BEZEL_TEST_DATA "/tiny_tokenizer.json");
  return tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input = fuzz::as_text(data, size);
  const std::size_t end = input.find('\0');
  const std::string_view json = input.substr(0, end);
  const std::string_view text = end == std::string_view::npos ? "a b" : input.substr(end + 1);
  if (json.empty()) {
    check_encoding(usual(), text);
    return 0;
  }
  const auto tokenizer = fuzz::accepted([&] { return data::Tokenizer::from_json(json, "input"); });
  if (tokenizer) check_encoding(*tokenizer, text);
  return 0;
}
