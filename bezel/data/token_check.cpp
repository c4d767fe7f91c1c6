#include "bezel/data/token_check.h"

#include "bezel/error.h"

namespace bezel::data {

void check_tokens(const Tokenizer& tokenizer, ChatFormat format, const MediaTokenIds& ids,
                  const input::PerKind<bool>& media) {
  const auto check = [&](std::string_view token, std::int64_t wanted) {
    const auto id = tokenizer.token_id(token);
    if (!id) throw Error("tokenizer.json: the token ", token, " is missing");
    if (wanted >= 0 && *id != wanted)
      throw Error("tokenizer.json gives ", token, " the id ", *id, ", but config.json says ", wanted);
  };
  const auto [begin, end] = chat_tokens(format);
  for (const std::string_view token : {std::string_view("<bos>"), std::string_view("<eos>"), begin, end})
    check(token, -1);
  for (const MediaKind kind : input::kMediaKinds)
    if (media[kind]) check(input::kMediaWords[kind].placeholder, ids[kind]);
}

}  // namespace bezel::data
