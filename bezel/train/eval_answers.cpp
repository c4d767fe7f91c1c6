#include "bezel/train/eval_answers.h"

#include "bezel/data/answer.h"
#include "bezel/error.h"
#include "bezel/generate/answer.h"
#include "bezel/generate/settings.h"
#include "bezel/train/reduction.h"

namespace bezel::train {
namespace {

constexpr std::int64_t kReadAtATime = 512;  // tokens of a prompt

}  // namespace

EvalAnswers::EvalAnswers(const TrainConfig& config, const BatchPlan& batches) : batches_(batches) {
  const data::Tokenizer& tokenizer = batches.train_data().tokenizer();
  limits_ = {.max_new_tokens = config.eval_max_new_tokens,
             .stop_ids = generate::read_settings(config.base_model, tokenizer, config.chat_template).stop_ids};
}

double EvalAnswers::exact_match(gemma4::Model& model, const gemma4::PhaseObserver& observer,
                                ProcessGroup& group) const {
  generate::Generator generator(model, kReadAtATime, observer);
  std::int64_t asked = 0, right = 0;
  for (std::int64_t i = group.rank(); i < batches_.num_eval(); i += group.size()) {
    const auto prompt = batches_.eval_prompt(static_cast<std::size_t>(i));
    if (!prompt) continue;
    const generate::Answer said =
        generate::greedy_answer(generator, batches_.train_data().tokenizer(), prompt->sample.sample, limits_);
    right += data::score_answer(said.text, prompt->sample.answer, /*ignore_case=*/false).exact;
    ++asked;
  }
  sum_counts(group, {&asked, &right});
  if (asked == 0)
    throw Error(ErrorKind::kConfig, "eval_generate: no held-out sample has a prompt that the model could answer");
  return static_cast<double>(right) / static_cast<double>(asked);
}

}  // namespace bezel::train
