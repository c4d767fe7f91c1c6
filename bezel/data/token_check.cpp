#include "bezel/data/token_check.h"

#include "bezel/error.h"

namespace bezel::data {
namespace {

// An id below 0 is any.
void check_token(const Tokenizer& tokenizer, std::string_view token, std::int64_t wanted) {
  const auto id = tokenizer.token_id(token);
  if (!id) throw Error("tokenizer.json: the token ", token, " is missing");
  if (wanted >= 0 && *id != wanted)
    throw Error("tokenizer.json gives ", token, " the id ", *id, ", but config.json says ", wanted);
}

}  // namespace

void check_tokens(const Tokenizer& tokenizer, ChatFormat format, const MediaTokenIds& ids,
                  const input::PerKind<bool>& media) {
  const auto [begin, end] = chat_tokens(format);
  for (const std::string_view token : {std::string_view("<bos>"), std::string_view("<eos>"), begin, end})
    check_token(tokenizer, token, -1);
  // Tokenizers of before video was known lack its placeholder, which no other sample needs.
  for (const MediaKind kind : input::kMediaKinds)
    if (media[kind] && kind != MediaKind::kVideo) check_placeholder(tokenizer, kind, ids);
}

void check_placeholder(const Tokenizer& tokenizer, MediaKind kind, const MediaTokenIds& ids) {
  check_token(tokenizer, input::kMediaWords[kind].placeholder, ids[kind]);
}

}  // namespace bezel::data
