#include "bezel/train/batch_plan.h"

#include <algorithm>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/gemma4/load.h"
#include "bezel/train/cost_model.h"
#include "bezel/train/data_loader.h"
#include "bezel/train/saturation.h"
#include "support/media_files.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

using test::error_of;
using test::says;

constexpr std::int64_t kRowTokens = 128;

class NoNote final : public WorkNote {
 public:
  void begin(const std::string&) override {}
};

std::string chat(int number, std::size_t words) {
  std::string answer;
  for (std::size_t i = 0; i < words; ++i) answer += "word ";
  return R"({"messages": [{"role": "user", "content": "Number )" + std::to_string(number) +
         R"(?"}, {"role": "assistant", "content": ")" + answer + "\"}]}\n";
}

std::string image(std::uint32_t width, std::uint32_t height, std::uint32_t rows) {
  test::PngParts parts{.width = width, .height = height};
  std::uint32_t noise = width;
  for (std::uint32_t y = 0; y < rows; ++y) {
    parts.rows += '\0';
    for (std::uint32_t i = 0; i < 3 * width; ++i)
      parts.rows += static_cast<char>((noise = noise * 1664525 + 1013904223) >> 24);
  }
  return test::make_png(parts);
}

/// Runs of the demo's tokenizer and config over samples made here.
class BatchPlanTest : public testing::Test {
 protected:
  BatchPlanTest() {
    config.base_model = std::string(BEZEL_TEST_DATA) + "/../../demo/model";
    config.train_file = folder / "train.jsonl";
    config.max_seq_length = kRowTokens;
    config.max_soft_tokens = 70;
    config.micro_batch_size = 2;
    config.gradient_accumulation_steps = 2;
    std::string lines;
    for (int i = 0; i < 37; ++i) lines += chat(i, static_cast<std::size_t>(i * 7 % 25 + 1));
    test::write_bytes(config.train_file, lines);
  }

  BatchPlan open() const { return {config, gemma4::read_model_config(config.base_model)}; }

  /// Images of several sizes, of which number `broken` is damaged.
  void write_images(int broken) {
    std::string lines;
    for (int i = 0; i < 8; ++i) {
      const std::string name = "p" + std::to_string(i) + ".png";
      // Of the broken one only half the rows are there, which shows when it is decoded.
      test::write_bytes(folder / name, image(60 + 20 * static_cast<std::uint32_t>(i), 50, i == broken ? 25 : 50));
      lines += R"({"messages": [{"role": "user", "content": [{"type": "image", "path": ")" + name +
               R"("}]}, {"role": "assistant", "content": "Image )" + std::to_string(i) + "\"}]}\n";
    }
    test::write_bytes(config.train_file, lines);
  }

  test::TempFolder folder;
  TrainConfig config;
  NoNote note;
};

// Row keys by the token at them and the position in its sample, over an epoch.
std::multimap<std::int64_t, std::int64_t> keys_of_epoch(const BatchPlan& plan, WorkNote& note) {
  std::multimap<std::int64_t, std::int64_t> keys;
  for (std::int64_t step = 0; step < plan.steps_per_epoch(); ++step)
    for (const data::Batch& batch : plan.step(step, note)) {
      const auto take = [](const torch::Tensor& tensor) { return tensor.flatten().contiguous(); };
      const torch::Tensor ids = take(batch.input_ids), real = take(batch.attention_mask), rows = take(batch.row_keys);
      for (std::int64_t i = 0; i < ids.numel(); ++i)
        if (real[i].item<bool>()) keys.emplace(rows[i].item<std::int64_t>(), ids[i].item<std::int64_t>());
    }
  return keys;
}

TEST_F(BatchPlanTest, KeysOfRandomNumbersAreThoseOfTheSampleHoweverItIsBatched) {
  config.packing = true;
  const auto wanted = keys_of_epoch(open(), note);
  ASSERT_GT(wanted.size(), 500u);
  for (auto next = wanted.begin(); std::next(next) != wanted.end(); ++next)
    ASSERT_NE(next->first, std::next(next)->first) << "two positions share a key";
  config.packing = false;
  EXPECT_EQ(keys_of_epoch(open(), note), wanted);
  config.micro_batch_size = 5;
  config.shuffle = false;
  EXPECT_EQ(keys_of_epoch(open(), note), wanted);
}

TEST_F(BatchPlanTest, SharesOfAStepAreItsMicroBatchesInTurn) {
  config.packing = false;
  config.global_batch_size = 10;  // five micro-batches, whatever gradient_accumulation_steps says
  const BatchPlan plan = open();
  EXPECT_EQ(plan.steps_per_epoch(), 4);
  for (std::int64_t step = 0; step < 4; ++step) {
    const std::vector<data::Batch> all = plan.step(step, note);
    ASSERT_EQ(all.size(), step < 3 ? 5u : 4u);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      const auto mine = plan.step(step, note, {static_cast<std::int64_t>(rank), 3});
      for (std::size_t i = 0; i < mine.size(); ++i)
        EXPECT_TRUE(torch::equal(mine[i].input_ids, all.at(rank + 3 * i).input_ids));
      EXPECT_EQ(mine.size(), (all.size() - rank + 2) / 3);
    }
  }
}

TEST_F(BatchPlanTest, TheLargestMicroBatchIsAsLongAsItsSamples) {
  config.packing = false;
  config.share_prefixes = false;
  const BatchPlan plan = open();
  std::int64_t most = 0;
  for (std::int64_t step = 0; step < plan.steps_per_epoch(); ++step)
    for (const data::Batch& batch : plan.step(step, note)) most = std::max(most, batch.input_ids.numel());
  EXPECT_LT(most, config.micro_batch_size * kRowTokens);
  EXPECT_EQ(largest_micro_batch(config, plan).tokens, most);
  config.packing = true;
  EXPECT_EQ(largest_micro_batch(config, open()).tokens, config.micro_batch_size * kRowTokens);
}

TEST_F(BatchPlanTest, LayersAreRecomputedWhereSamplesNotWhereRowsMayBeLong) {
  config.packing = false;
  config.micro_batch_size = 1;
  config.max_seq_length = std::int64_t{1} << 24;  // few memories hold such a row
  const gemma4::ModelConfig model = gemma4::read_model_config(config.base_model);
  std::vector<std::string> notes;
  EXPECT_FALSE(wants_recompute(config, model, open(), torch::kCPU, notes));
  EXPECT_TRUE(notes.empty());
  config.micro_batch_size = 1 << 24;
  EXPECT_TRUE(wants_recompute(config, model, open(), torch::kCPU, notes));
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_TRUE(notes[0].starts_with("gradient_checkpointing: on")) << notes[0];
}

TEST_F(BatchPlanTest, EncoderRowsAreThoseOfTheLargestImage) {
  write_images(-1);
  config.packing = false;
  config.micro_batch_size = 8;
  config.gradient_accumulation_steps = 1;
  const BatchPlan plan = open();
  std::int64_t most = 0;
  for (const data::Batch& batch : plan.step(0, note))
    for (const data::Media& item : batch.media) most = std::max(most, item.num_soft_tokens);
  ASSERT_GT(most, 0);
  const std::int64_t rows = plan.train_data().options().media.rows_per_soft_token(input::MediaKind::kImage);
  EXPECT_EQ(largest_micro_batch(config, plan).encoder_rows[input::MediaKind::kImage], 8 * most * rows);
}

using Ids = std::vector<std::int64_t>;

/// The token ids of each sample in a batch, whichever way it was collated.
std::vector<Ids> samples_of(const data::Batch& batch) {
  std::vector<Ids> samples;
  for (std::int64_t row = 0; row < batch.input_ids.size(0); ++row) {
    std::int64_t last_first = -1;
    for (std::int64_t t = 0; t < batch.input_ids.size(1); ++t) {
      if (!batch.attention_mask[row][t].item<bool>()) continue;
      const std::int64_t first = batch.segment_start.defined() ? batch.segment_start[row][t].item<std::int64_t>() : 0;
      if (first != last_first) samples.emplace_back();
      last_first = first;
      samples.back().push_back(batch.input_ids[row][t].item<std::int64_t>());
    }
  }
  return samples;
}

/// Every tensor of what a step is made of, to compare.
std::vector<at::Tensor> tensors_of(const std::vector<data::Batch>& batches) {
  std::vector<at::Tensor> tensors;
  for (const data::Batch& batch : batches) {
    for (const at::Tensor& tensor : {batch.input_ids, batch.attention_mask, batch.segment_start, batch.label_flat_index,
                                     batch.label_ids, batch.soft_rows})
      tensors.push_back(tensor.defined() ? tensor : at::empty({0}));
    for (const data::Media& media : batch.media) tensors.push_back(media.features);
  }
  return tensors;
}

bool same(const std::vector<data::Batch>& a, const std::vector<data::Batch>& b) {
  return std::ranges::equal(tensors_of(a), tensors_of(b),
                            [](const at::Tensor& x, const at::Tensor& y) { return at::equal(x, y); });
}

TEST_F(BatchPlanTest, EveryEpochHasEverySampleOnceInAsManySteps) {
  for (const bool packing : {false, true}) {
    for (const bool shuffle : {false, true}) {
      config.packing = packing;
      config.shuffle = shuffle;
      const BatchPlan batches = open();
      std::multiset<Ids> first;
      std::vector<Ids> first_order;
      for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        std::multiset<Ids> seen;
        std::vector<Ids> order;
        for (std::int64_t i = 0; i < batches.steps_per_epoch(); ++i)
          for (const data::Batch& batch : batches.step(epoch * batches.steps_per_epoch() + i, note))
            for (const Ids& sample : samples_of(batch)) order.push_back(sample);
        seen.insert(order.begin(), order.end());
        EXPECT_EQ(seen.size(), 37u);
        if (epoch == 0) {
          first = seen;
          first_order = order;
        }
        EXPECT_EQ(seen, first);
        EXPECT_EQ(order != first_order, shuffle && epoch > 0);
      }
    }
  }
}

TEST_F(BatchPlanTest, PackedRowsAreFullAndNeverTooLong) {
  config.packing = true;
  const BatchPlan batches = open();
  std::int64_t tokens = 0;
  for (std::int64_t step = 0; step < batches.steps_per_epoch(); ++step) {
    for (const data::Batch& batch : batches.step(step, note)) {
      EXPECT_EQ(batch.input_ids.size(0), 1);
      EXPECT_FALSE(batch.has_padding);
      EXPECT_EQ(batch.num_tokens, batch.input_ids.size(1));
      EXPECT_LE(batch.num_tokens, config.micro_batch_size * kRowTokens);
      tokens += batch.num_tokens;
    }
  }
  const std::int64_t fewest_rows = (tokens + kRowTokens - 1) / kRowTokens;
  EXPECT_LE(batches.num_rows(), fewest_rows + 1);
  EXPECT_LT(batches.num_rows(), batches.num_train() * 2 / 3);
}

// What a sample predicts, and what it knows of its neighbors.
TEST_F(BatchPlanTest, PackedSamplesKeepTheirLabels) {
  std::map<Ids, Ids> labels;
  for (const bool packing : {false, true}) {
    config.packing = packing;
    const BatchPlan batches = open();
    for (std::int64_t step = 0; step < batches.steps_per_epoch(); ++step) {
      for (const data::Batch& batch : batches.step(step, note)) {
        const at::Tensor flat = batch.input_ids.flatten();
        std::map<std::int64_t, std::int64_t> label_of;
        for (std::int64_t i = 0; i < batch.num_labels(); ++i)
          label_of[batch.label_flat_index[i].item<std::int64_t>()] = batch.label_ids[i].item<std::int64_t>();
        std::int64_t position = 0;
        for (const Ids& sample : samples_of(batch)) {
          if (!packing)
            position = (position + batch.input_ids.size(1) - 1) / batch.input_ids.size(1) * batch.input_ids.size(1);
          Ids own;
          for (std::size_t t = 0; t < sample.size(); ++t, ++position)
            own.push_back(label_of.contains(position) ? label_of[position] : data::kIgnoreLabel);
          EXPECT_EQ(labels.try_emplace(sample, own).first->second, own);
        }
      }
    }
  }
}

TEST_F(BatchPlanTest, AutomaticPackingLeavesTenUpdates) {
  config.packing = true;
  const std::int64_t packed_steps = open().steps_per_epoch();
  config.packing = false;
  const std::int64_t steps = open().steps_per_epoch();
  ASSERT_LT(packed_steps, steps);
  config.packing.reset();
  config.num_train_epochs = static_cast<double>(9 / packed_steps);
  EXPECT_FALSE(open().packs());
  EXPECT_EQ(open().num_rows(), 37);
  EXPECT_EQ(open().steps_per_epoch(), steps);
  config.num_train_epochs += 1;
  EXPECT_TRUE(open().packs());
  config.num_train_epochs = 1;
  config.packing = true;
  EXPECT_TRUE(open().packs()) << "what is given holds";
  config.packing.reset();
  config.max_steps = 2;
  EXPECT_TRUE(open().packs()) << "packing does not change the number of updates";
}

// 24 short chats with every default: four to an update.
TEST_F(BatchPlanTest, ASmallDataSetWithDefaultsHasAnUpdateForEveryFourSamples) {
  TrainConfig defaults;
  defaults.base_model = config.base_model;
  defaults.train_file = config.train_file;
  std::string lines;
  for (int i = 0; i < 24; ++i) lines += chat(i, 3);
  test::write_bytes(config.train_file, lines);
  const BatchPlan batches(defaults, gemma4::read_model_config(defaults.base_model));
  EXPECT_FALSE(batches.packs());
  EXPECT_EQ(batches.total_steps(), 6);
}

TEST_F(BatchPlanTest, PackingIsForTextUnlessTold) {
  config.num_train_epochs = 20;
  EXPECT_TRUE(open().packs());
  config.packing = false;
  EXPECT_FALSE(open().packs());
  write_images(/*broken=*/-1);
  config.packing.reset();
  EXPECT_FALSE(open().packs());
  config.packing = true;
  EXPECT_TRUE(open().packs());
  config.packing.reset();
  const std::string images = folder / "images.jsonl";
  std::filesystem::rename(config.train_file, images);
  test::write_bytes(config.train_file, chat(1, 3));
  EXPECT_TRUE(open().packs());
  config.eval_file = images;
  EXPECT_FALSE(open().packs()) << "held-out samples count";
}

TEST_F(BatchPlanTest, HeldOutSamplesArePackedToo) {
  config.val_set_size = 12;
  std::multiset<Ids> apart, packed;
  for (const bool packing : {false, true}) {
    config.packing = packing;
    const BatchPlan batches = open();
    EXPECT_EQ(batches.num_eval(), 12);
    for (std::int64_t i = 0; i < batches.num_eval_batches(); ++i)
      for (const Ids& sample : samples_of(batches.eval_batch(i, note))) (packing ? packed : apart).insert(sample);
    EXPECT_LE(batches.num_eval_batches(), packing ? 5 : 6);
  }
  EXPECT_EQ(apart.size(), 12u);
  EXPECT_EQ(apart, packed);
}

// A run that goes on from a checkpoint asks for a step in the middle first.
TEST_F(BatchPlanTest, AStepDependsOnItsNumberAlone) {
  config.packing = true;
  const BatchPlan whole = open();
  std::vector<std::vector<data::Batch>> steps;
  const std::int64_t count = 2 * whole.steps_per_epoch() + 1;
  for (std::int64_t step = 0; step < count; ++step) steps.push_back(whole.step(step, note));
  for (std::int64_t step = count - 1; step >= 0; --step)
    EXPECT_TRUE(same(open().step(step, note), steps[static_cast<std::size_t>(step)]));
  EXPECT_FALSE(same(steps[0], steps[static_cast<std::size_t>(whole.steps_per_epoch())])) << "the control";
  config.seed = 43;
  EXPECT_FALSE(same(open().step(0, note), steps[0])) << "the control";
}

TEST_F(BatchPlanTest, TheFeedGivesTheSameWhateverTheWorkers) {
  for (const bool images : {false, true}) {
    if (images) write_images(/*broken=*/-1);
    config.packing = true;
    config.val_set_size = 3;
    config.max_steps = 9;
    std::vector<std::vector<data::Batch>> wanted;
    for (const std::int64_t workers : {0, 1, 2}) {
      config.dataloader_num_workers = workers;
      DataLoader feed(std::make_shared<const BatchPlan>(config, gemma4::read_model_config(config.base_model)), config,
                      {});
      const BatchSource source = feed.source(2);
      std::vector<std::vector<data::Batch>> found;
      for (std::int64_t step = 2; step < 9; ++step) {
        found.push_back(source.train(step));
        if (step % 3 != 0) continue;
        for (std::int64_t i = 0; i < source.num_eval_batches; ++i) found.push_back({source.eval(i)});
      }
      if (workers == 0) wanted = found;
      ASSERT_EQ(found.size(), wanted.size());
      for (std::size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(same(found[i], wanted[i])) << workers << " " << i;
    }
  }
}

TEST_F(BatchPlanTest, WhatCannotBeDecodedEndsTheRunOrIsLeftOutAndTold) {
  write_images(/*broken=*/5);
  config.packing = false;
  config.num_train_epochs = 2;
  for (const std::int64_t workers : {0, 2}) {
    config.dataloader_num_workers = workers;
    for (const bool skip : {false, true}) {
      config.skip_bad_samples = skip;
      std::vector<std::string> told;
      DataLoader feed(std::make_shared<const BatchPlan>(config, gemma4::read_model_config(config.base_model)), config,
                      [&](const std::string& why) { told.push_back(why); });
      const BatchSource source = feed.source(0);
      std::size_t samples = 0;
      const std::string message = error_of([&] {
        for (std::int64_t step = 0; step < 4; ++step)
          for (const data::Batch& batch : source.train(step)) samples += samples_of(batch).size();
      });
      if (skip) {
        EXPECT_EQ(message, "");
        EXPECT_EQ(samples, 14u);
        ASSERT_EQ(told.size(), 1u) << "once, not in each epoch";
        EXPECT_TRUE(says(told[0], config.train_file + ":6: "));
      } else {
        EXPECT_TRUE(says(message, config.train_file + ":6: "));
        EXPECT_TRUE(told.empty());
      }
    }
  }
}

TEST_F(BatchPlanTest, LeftOutSamplesDoNotComeAgain) {
  config.skip_bad_samples = true;
  config.packing = true;
  const BatchPlan batches = open();
  const std::string source = batches.train_data().source(4);
  EXPECT_TRUE(batches.skip_sample(source, "too slow"));
  EXPECT_TRUE(batches.skip_sample(source, "too slow again"));
  EXPECT_EQ(batches.take_left_out(), std::vector<std::string>{"too slow"});
  EXPECT_TRUE(batches.take_left_out().empty());
  std::size_t samples = 0;
  for (std::int64_t step = 0; step < batches.steps_per_epoch(); ++step)
    for (const data::Batch& batch : batches.step(step, note)) samples += samples_of(batch).size();
  EXPECT_EQ(samples, 36u);
  config.skip_bad_samples = false;
  EXPECT_FALSE(open().skip_sample(source, "too slow"));
}

TEST_F(BatchPlanTest, MediaSampleIsOneSampleWithItsMedia) {
  write_images(/*broken=*/-1);
  const data::Batch batch = open().media_sample(3, note);
  EXPECT_EQ(batch.media.size(), 1u);
  EXPECT_FALSE(batch.segment_start.defined());
}

// All images but the first two are damaged, which shows when one is decoded.
TEST_F(BatchPlanTest, ClipReportDecodesTheSamplesThatItAsksForAndNoOther) {
  std::string lines = chat(0, 3);
  for (int i = 0; i < 400; ++i)
    lines += R"({"messages": [{"role": "user", "content": [{"type": "image", "path": "p)" +
             std::to_string(i < 2 ? i : 2) + R"(.png"}]}, {"role": "assistant", "content": "An image"}]})" + "\n";
  for (int i = 0; i < 3; ++i)
    test::write_bytes(folder / ("p" + std::to_string(i) + ".png"), image(60, 50, i < 2 ? 50 : 25));
  test::write_bytes(config.train_file, lines);
  DataLoader feed(std::make_shared<const BatchPlan>(config, gemma4::read_model_config(config.base_model)), config, {});
  const NextMediaSample next_sample = feed.media_samples();
  EXPECT_FALSE(next_sample({{true, true}})->media.empty());
  EXPECT_FALSE(next_sample({{true, true}})->media.empty());
  EXPECT_FALSE(next_sample({{false, true}})) << "no sample has audio";
  EXPECT_FALSE(next_sample({{true, true}})) << "all were passed over";
}

TEST_F(BatchPlanTest, FilesAreVisitedByTheirWeightsAndHeldOutSamplesNever) {
  test::write_bytes(folder / "few.jsonl", chat(100, 3) + chat(101, 4) + chat(102, 5) + chat(103, 6));
  config.datasets = {{.file = {.path = folder / "few.jsonl", .weight = 2.5}},
                     {.file = {.path = config.train_file, .weight = 0.5}}};
  config.train_file.clear();
  config.val_set_size = 5;
  config.packing = false;
  const BatchPlan batches = open();
  std::map<std::string, int> visits;
  for (const std::size_t idx : batches.epoch_rows(0)->samples) ++visits[batches.train_data().source(idx)];
  int few = 0, many = 0, total = 0;
  for (const auto& [source, count] : visits) {
    const bool is_few = source.find("few.jsonl") != std::string::npos;
    EXPECT_LE(count, is_few ? 3 : 1) << source;
    EXPECT_GE(count, is_few ? 2 : 1) << source;
    (is_few ? few : many) += 1;
    total += count;
  }
  const int left_of_many = 41 - 5 - few;  // what is not held out
  EXPECT_EQ(many, left_of_many / 2);
  EXPECT_EQ(total, few * 5 / 2 + left_of_many / 2);
  EXPECT_EQ(batches.num_train(), total);
  EXPECT_EQ(batches.num_eval(), 5);
}

TEST_F(BatchPlanTest, OfManyImagesOnlyThoseOfTheFirstStepAndTheClipReportAreDecoded) {
  constexpr int kLines = 100'000;
  test::write_bytes(folder / "p.png", image(40, 40, 40));
  const std::string line =
      R"({"messages":[{"role":"user","content":[{"type":"image","path":"p.png"}]},{"role":"assistant","content":"a"}]})"
      "\n";
  std::string lines;
  for (int i = 0; i < kLines; ++i) lines += line;
  test::write_bytes(config.train_file, lines);
  config.dataloader_num_workers = 0;
  config.share_prefixes = false;  // or all of a step would be one micro-batch
  const auto batches = std::make_shared<const BatchPlan>(config, gemma4::read_model_config(config.base_model));
  ASSERT_EQ(batches->num_train(), kLines);
  EXPECT_EQ(batches->train_data().num_decoded(), 0u);
  gemma4::Model model = gemma4::load_model(config.base_model, {torch::kFloat, torch::kCPU, {}}).model;
  DataLoader feed(batches, config, {});
  EXPECT_FALSE(measure_saturation(model, feed.media_samples(), torch::kCPU).empty());
  EXPECT_EQ(batches->train_data().num_decoded(), 2u);
  EXPECT_EQ(feed.source(0).train(0).size(), 2u);
  EXPECT_EQ(batches->train_data().num_decoded(), 2u + 2 * 2);
}

// A chat behind a system prompt that is its family's.
std::string family_chat(int family, int number) {
  std::string system = "Family " + std::to_string(family) + ".";
  for (int i = 0; i < 40; ++i) system += " You answer with great care" + std::to_string(family * i) + ".";
  return R"({"messages": [{"role": "system", "content": ")" + system + R"("}, {"role": "user", "content": "Number )" +
         std::to_string(number) + R"(?"}, {"role": "assistant", "content": "It is number )" + std::to_string(number) +
         "\"}]}\n";
}

/// What a step is trained on: labels, tokens as if each sample were apart, and tokens that are computed.
struct StepSums {
  std::multiset<std::int64_t> labels{};
  std::int64_t tokens = 0, computed = 0, longest = 0;
  std::size_t batches = 0;
};

StepSums sums_of(const std::vector<data::Batch>& batches) {
  StepSums sums{.batches = batches.size()};
  for (const data::Batch& batch : batches) {
    for (std::int64_t i = 0; i < batch.num_labels(); ++i) sums.labels.insert(batch.label_ids[i].item<std::int64_t>());
    sums.tokens += batch.num_tokens;
    sums.computed += batch.attention_mask.sum().item<std::int64_t>();
    sums.longest = std::max(sums.longest, batch.input_ids.numel());
  }
  return sums;
}

TEST_F(BatchPlanTest, SharingLeavesTheStepsOfDataThatAreAllAlike) {
  std::string lines;
  for (int i = 0; i < 37; ++i) lines += family_chat(1, i);
  test::write_bytes(config.train_file, lines);
  config.max_seq_length = 1024;
  for (const bool packing : {false, true}) {
    config.packing = packing;
    config.share_prefixes = false;
    const BatchPlan apart = open();
    EXPECT_FALSE(apart.prefix_plan().shares);
    config.share_prefixes.reset();
    const BatchPlan shared = open();
    EXPECT_TRUE(shared.prefix_plan().shares);
    EXPECT_FALSE(shared.prefix_plan().groups);
    EXPECT_GT(shared.prefix_plan().saved, 0.3);
    ASSERT_EQ(shared.total_steps(), apart.total_steps());
    for (std::int64_t step = 0; step < apart.total_steps(); ++step) {
      const StepSums together = sums_of(shared.step(step, note)), by_itself = sums_of(apart.step(step, note));
      EXPECT_EQ(together.labels, by_itself.labels);
      EXPECT_EQ(together.tokens, by_itself.tokens);
      if (by_itself.batches > 1) {
        EXPECT_LT(together.computed, by_itself.computed * 2 / 3);
      }
      EXPECT_LE(together.batches, by_itself.batches);
      EXPECT_LE(together.longest, config.micro_batch_size * config.max_seq_length);
    }
  }
}

TEST_F(BatchPlanTest, SamplesThatBeginAlikeStayTogetherWhereThatPays) {
  std::string lines;
  for (int i = 0; i < 48; ++i) lines += family_chat(i % 12, i);
  test::write_bytes(config.train_file, lines);
  config.max_seq_length = 1024;
  config.packing = false;
  config.micro_batch_size = 4;
  const BatchPlan batches = open();
  EXPECT_TRUE(batches.prefix_plan().groups);
  EXPECT_NE(batches.prefix_plan().note.find("stay together"), std::string::npos);
  std::set<std::vector<std::size_t>> orders;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    const std::vector<std::size_t> order = batches.epoch_rows(epoch)->samples;
    orders.insert(order);
    EXPECT_EQ(std::set<std::size_t>(order.begin(), order.end()).size(), 48u);
    for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i] % 12, order[i - i % 4] % 12) << i;
  }
  EXPECT_EQ(orders.size(), 3u);
  for (const std::int64_t step : {7, 0, 3}) EXPECT_TRUE(same(open().step(step, note), batches.step(step, note)));
  config.shuffle = false;
  EXPECT_FALSE(open().prefix_plan().groups) << "the order is the user's";
}

TEST_F(BatchPlanTest, DropoutKeepsAutoFromSharing) {
  std::string lines;
  for (int i = 0; i < 8; ++i) lines += family_chat(1, i);
  test::write_bytes(config.train_file, lines);
  config.max_seq_length = 1024;
  config.lora.dropout = 0.1;
  const BatchPlan batches = open();
  EXPECT_FALSE(batches.prefix_plan().shares);
  EXPECT_NE(batches.prefix_plan().note.find("lora_dropout"), std::string::npos);
}

std::vector<data::Batch> eval_batches(const BatchPlan& plan, WorkNote& note) {
  std::vector<data::Batch> batches;
  for (std::int64_t i = 0; i < plan.num_eval_batches(); ++i) batches.push_back(plan.eval_batch(i, note));
  return batches;
}

// Far apart in the file, so that hardly any two of a micro-batch begin alike.
TEST_F(BatchPlanTest, HeldOutSamplesThatBeginAlikeAreEvaluatedTogether) {
  std::string lines;
  for (int i = 0; i < 48; ++i) lines += family_chat(i % 12, i);
  config.eval_file = folder / "eval.jsonl";
  test::write_bytes(config.eval_file, lines);
  config.max_seq_length = 1024;
  config.micro_batch_size = 4;
  config.lora.dropout = 0.1;  // keeps training from sharing, but nothing is dropped here
  for (const bool packing : {false, true}) {
    config.packing = packing;
    config.share_prefixes = false;
    const BatchPlan apart = open();
    EXPECT_FALSE(apart.eval_prefix_plan().shares);
    config.share_prefixes.reset();
    const BatchPlan shared = open();
    EXPECT_FALSE(shared.prefix_plan().shares);
    ASSERT_TRUE(shared.eval_prefix_plan().shares);
    EXPECT_NE(shared.eval_prefix_plan().note.find("evaluation"), std::string::npos);
    const StepSums together = sums_of(eval_batches(shared, note)), by_itself = sums_of(eval_batches(apart, note));
    EXPECT_EQ(shared.num_eval(), 48);
    EXPECT_EQ(together.labels, by_itself.labels);
    EXPECT_EQ(together.tokens, by_itself.tokens);
    const auto computed = static_cast<double>(together.computed) / static_cast<double>(together.tokens);
    EXPECT_LE(computed, 1.0 - shared.eval_prefix_plan().saved + 1e-9) << "hashes know at most what is alike";
    EXPECT_LT(computed, 0.7);
    EXPECT_LE(together.longest, std::max<std::int64_t>(2048, config.micro_batch_size * config.max_seq_length));
  }
}

TEST_F(BatchPlanTest, HeldOutSamplesThatHaveNothingInCommonStayAsTheyAre) {
  config.val_set_size = 9;
  config.packing = false;
  const BatchPlan plan = open();
  EXPECT_FALSE(plan.eval_prefix_plan().shares);
  EXPECT_EQ(plan.eval_prefix_plan().note, "");
  config.share_prefixes = false;
  EXPECT_TRUE(same(eval_batches(open(), note), eval_batches(plan, note)));
}

}  // namespace
}  // namespace bezel::train
