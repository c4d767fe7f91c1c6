#include "bezel/generate/answer.h"

#include <algorithm>
#include <vector>

#include "bezel/data/answer.h"

namespace bezel::generate {

Answer greedy_answer(Generator& generator, const data::Tokenizer& tokenizer, const data::Sample& prompt,
                     const GenerateOptions& options, const std::function<bool(std::int64_t)>& on_token) {
  generator.reset();
  Sampler sampler({.greedy = true}, /*seed=*/0);
  const input::Batch batch = data::collate({&prompt, 1}, /*pad_id=*/0);  // one row has no padding
  const Generated out = generate(generator, batch, sampler, options, on_token);
  // As a whole: of bytes that make no character, a stream shows those that alone would be one.
  std::vector<std::int64_t> kept;
  for (const std::int64_t token : out.tokens)
    if (token < tokenizer.vocab_size() && std::ranges::find(options.stop_ids, token) == options.stop_ids.end())
      kept.push_back(token);
  const std::string text = tokenizer.decode(kept);
  return {data::answer_text(text), static_cast<std::int64_t>(out.tokens.size()), out.finish == Finish::kStopToken};
}

}  // namespace bezel::generate
