#include "bezel/train/resume.h"

#include <gtest/gtest.h>

#include "bezel/io/manifest.h"
#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

using test::error_of;
using test::says;
using test::TempFolder;
using test::write_bytes;

/// An output folder with checkpoints that hold nothing but their state.
class FindResumePoint : public testing::Test {
 protected:
  FindResumePoint() {
    config.output_dir = folder.path().string();
    config.resume_from_checkpoint = "auto";
  }

  std::string add(int step, const std::string& run_id = "mine") {
    const std::string path = folder / ("checkpoint-" + std::to_string(step));
    std::filesystem::create_directory(path);
    TrainerState trainer;
    trainer.steps_done = step;
    const io::Json state = {{"format", 1},
                            {"run_id", run_id},
                            {"recompute", false},
                            {"facts", to_json(RunFacts{})},
                            {"trainer", to_json(trainer)},
                            {"random", io::Json::object()}};
    write_bytes(path + "/training_state.json", state.dump());
    write_bytes(path + "/optimizer.safetensors", "some bytes");
    io::write_manifest(path);
    return path;
  }

  std::string found(const std::string& run_id = "mine") {
    notes.clear();
    const auto point = find_resume_point(config, run_id, notes);
    return point ? point->folder : "";
  }

  TempFolder folder;
  TrainConfig config;
  std::vector<std::string> notes;
};

TEST_F(FindResumePoint, AutoTakesTheHighestNumber) {
  EXPECT_EQ(found(), "");
  EXPECT_TRUE(says(notes.at(0), "starting from the beginning"));
  for (const int step : {9, 100, 20}) add(step);
  for (const char* name : {"checkpoint-300.tmp", "checkpoint-", "checkpoint-4x", "checkpoint-99999999999999999999"})
    std::filesystem::create_directory(folder / name);
  EXPECT_EQ(found(), folder / "checkpoint-100");
  EXPECT_TRUE(notes.empty());
  config.resume_from_checkpoint = "";
  EXPECT_EQ(found(), "");
}

TEST_F(FindResumePoint, DamagedOnesArePassedOverLoudly) {
  add(10);
  add(20);
  const std::string newest = add(30);
  write_bytes(newest + "/optimizer.safetensors", "same bytes");
  std::filesystem::remove(folder / "checkpoint-20/MANIFEST.json");
  EXPECT_EQ(found(), folder / "checkpoint-10");
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_TRUE(says(notes[0], "DAMAGED checkpoint passed over"));
  EXPECT_TRUE(says(notes[0], newest + "/optimizer.safetensors: its SHA-256 is"));
  EXPECT_TRUE(says(notes[1], "checkpoint-20/MANIFEST.json: No such file"));
  write_bytes(folder / "checkpoint-10/training_state.json", "");
  EXPECT_TRUE(says(error_of([&] { found(); }), "every checkpoint is damaged"));
}

TEST_F(FindResumePoint, CheckpointsOfOtherTrainersAreNamed) {
  const std::string other = folder / "checkpoint-40";
  std::filesystem::create_directory(other);
  for (const char* file : {"optimizer.pt", "rng_state.pth", "trainer_state.json", "adapter_model.safetensors"})
    write_bytes(other + "/" + file, "");
  EXPECT_TRUE(says(error_of([&] { found(); }), "init_adapter: " + other));
  config.resume_from_checkpoint = other;
  EXPECT_TRUE(says(error_of([&] { found(); }), "a checkpoint of another trainer"));
  config.resume_from_checkpoint = "auto";
  add(10);
  EXPECT_EQ(found(), folder / "checkpoint-10");
}

TEST_F(FindResumePoint, CheckpointsOfAnEarlierRunAreLeftAlone) {
  add(50, "earlier");
  add(10);
  EXPECT_EQ(found(), folder / "checkpoint-10");
  EXPECT_TRUE(says(notes.at(0), "checkpoint-50 is of an earlier run"));
  EXPECT_EQ(found("other"), "");
  EXPECT_EQ(found(""), folder / "checkpoint-50") << "a folder that was copied does not know its run";
}

TEST_F(FindResumePoint, APathIsOneCheckpointOrAFolderOfThem) {
  add(10);
  const std::string path = add(20, "earlier");
  config.output_dir = "elsewhere";
  config.resume_from_checkpoint = path;
  EXPECT_EQ(found(), path);
  config.resume_from_checkpoint = folder.path().string();
  EXPECT_EQ(found(), path);
  write_bytes(path + "/optimizer.safetensors", "");
  config.resume_from_checkpoint = path;
  EXPECT_TRUE(says(error_of([&] { found(); }), "optimizer.safetensors: has 0 bytes"));
  config.resume_from_checkpoint = folder / "none";
  EXPECT_TRUE(says(error_of([&] { found(); }), "no such folder"));
}

TEST(CheckSameRun, ListsWhatDiffersAndCanBeForced) {
  ResumePoint point{"checkpoint-3", {}};
  point.state.facts = {{{"seed", "1"}, {"micro_batch_size", "2"}}, {{"train_file", "aa"}}, {{"threads", "1"}}};
  RunFacts now = point.state.facts;
  std::vector<std::string> notes;
  EXPECT_TRUE(check_same_run(point, now, false, notes));
  now.machine["threads"] = "2";
  EXPECT_TRUE(check_same_run(point, now, false, notes));
  EXPECT_TRUE(says(notes.at(0), "threads: was 1, is 2"));
  now.config["seed"] = "7";
  now.inputs["train_file"] = "bb";
  notes.clear();
  try {
    check_same_run(point, now, false, notes);
    FAIL() << "another seed was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_TRUE(says(error.what(), "train_file: was aa, is bb; seed: was 1, is 7; force_resume"));
  }
  EXPECT_FALSE(check_same_run(point, now, true, notes));
  EXPECT_TRUE(says(notes.at(0), "resumed with another train_file"));
}

}  // namespace
}  // namespace bezel::train
