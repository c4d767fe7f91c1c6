#include "bezel/train/trainer_state.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

TrainerState some_state() {
  return {.steps_done = 7,
          .skipped_steps = 2,
          .bad_in_a_row = 1,
          .num_tokens = 900,
          .loss_sum = 0.1 + 0.2,  // needs all 17 digits
          .first_loss = 1.0 / 3.0,
          .last_loss = 1e-300,
          .seconds = 2.5,
          .window = {.loss = 0.7, .grad_norm = 1e10, .learning_rate = 2e-4, .seconds = 0.5, .steps = 3, .tokens = 40},
          .best = BestEval{.value = 0.1, .step = 6},
          .evals_without_gain = 3,
          .audited = std::vector<std::string>{"a.lora_B"}};
}

TEST(TrainerState, TextKeepsEveryBit) {
  const io::Json json = to_json(some_state());
  const io::Json read = io::parse_json(json.dump(), "state");
  EXPECT_EQ(to_json(read_trainer_state(io::JsonView(read, "state"))), json);
  TrainerState fresh;
  fresh.audited.emplace();
  const io::Json empty = to_json(fresh);
  EXPECT_EQ(to_json(read_trainer_state(io::JsonView(empty, "state"))), empty);
}

TEST(TrainerState, NoKeyMayBeMissing) {
  const io::Json whole = to_json(some_state());
  for (const auto& [key, value] : whole.items()) {
    io::Json part = whole;
    part.erase(key);
    EXPECT_TRUE(test::says(test::error_of([&] { read_trainer_state(io::JsonView(part, "state")); }), key)) << key;
  }
  for (const auto& [key, value] : whole["window"].items()) {
    io::Json part = whole;
    part["window"].erase(key);
    EXPECT_TRUE(test::says(test::error_of([&] { read_trainer_state(io::JsonView(part, "state")); }), key)) << key;
  }
}

}  // namespace
}  // namespace bezel::train
