#include "cli/evaluate_pairs.h"

#include <cstdio>

#include "bezel/io/atomic_write.h"
#include "cli/command.h"
#include "cli/shared_tokens.h"

namespace bezel::cli {
namespace {

io::Json pair_means_json(const train::PairMeans& means) {
  return {{"preference_accuracy", means.accuracy},
          {"per_token_accuracy", means.per_token_accuracy},
          {"logps_chosen", means.chosen},
          {"logps_rejected", means.rejected}};
}

io::Json score_json(const train::PairScore& score) {
  return {{"chosen", score.chosen}, {"rejected", score.rejected}, {"prefers_chosen", score.chosen > score.rejected}};
}

void print_pair_row(const char* name, const io::Json& means) {
  std::printf("%-10s %13.2f%% %13.2f%% %12.4f %12.4f\n", name, 100 * means["preference_accuracy"].get<double>(),
              100 * means["per_token_accuracy"].get<double>(), means["logps_chosen"].get<double>(),
              means["logps_rejected"].get<double>());
}

}  // namespace

io::Json pairs_json(const train::PairEvaluation& evaluation, bool adapted, std::size_t left_out) {
  io::Json json{{"pairs", evaluation.pairs.size()},
                {"samples_left_out", left_out + evaluation.bad.size()},
                {"base", pair_means_json(train::pair_means(evaluation, false))}};
  add_shared_tokens(evaluation.shared.shares, evaluation.shared.saved(), json);
  if (!adapted) return json;
  const train::RewardMeans reward = train::reward_means(evaluation);
  json["adapter"] = pair_means_json(train::pair_means(evaluation, true));
  json["reward"] = {{"accuracy", reward.accuracy}, {"margin", reward.margin}};
  return json;
}

void print_pairs(const io::Json& summary) {
  std::printf("%s pairs", with_commas(summary["pairs"].get<long long>()).c_str());
  if (summary["samples_left_out"] != 0)
    std::printf(" (%s samples left out)", with_commas(summary["samples_left_out"].get<long long>()).c_str());
  std::printf("\n%s\n%-10s %14s %14s %12s %12s\n", shared_tokens_text(summary).c_str(), "", "prefers chosen",
              "per token", "log p chosen", "log p reject");
  print_pair_row("base", summary["base"]);
  if (!summary.contains("adapter")) return;
  print_pair_row("adapter", summary["adapter"]);
  std::printf("\nreward: the chosen answer gained more in %.2f%% of the pairs, %+.4f nats on average\n",
              100 * summary["reward"]["accuracy"].get<double>(), summary["reward"]["margin"].get<double>());
}

void write_pairs(const std::string& path, const train::PairEvaluation& evaluation) {
  std::string lines;
  for (const train::EvaluatedPair& pair : evaluation.pairs) {
    io::Json line{{"line", pair.line},
                  {"tokens", pair.tokens},
                  {"chosen_tokens", pair.chosen_tokens},
                  {"rejected_tokens", pair.rejected_tokens},
                  {"base", score_json(pair.base)}};
    if (pair.adapter) line["adapter"] = score_json(*pair.adapter);
    lines += line.dump() + "\n";
  }
  io::write_file_atomically(path, lines);
}

}  // namespace bezel::cli
