#include "bezel/report/run_reports.h"

#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "support/file_size_limit.h"
#include "support/temp_folder.h"

namespace bezel::report {
namespace {

namespace fs = std::filesystem;

class RunReportsTest : public ::testing::Test {
 protected:
  RunReportsTest() {
    config_.output_dir = folder_.path().string();
    config_.base_model = "some/folder/gemma-4/";
    plan_.total_steps = 4;
    plan_.notes = {"a <note>"};
    plan_.config = config_;
    plan_.config.lora.rank = 4;  // that of init_adapter
  }
  std::string page() const { return test::read_bytes(folder_ / "report.html"); }
  static train::StepReport step(std::int64_t number) { return {.step = number, .total_steps = 4, .loss = 2.5}; }

  test::TempFolder folder_;
  train::TrainConfig config_;
  train::RunPlan plan_;
};

TEST_F(RunReportsTest, ARunFromStartToEnd) {
  RunReports reports(config_, {{"bezel", "9.9", false}});
  EXPECT_FALSE(fs::exists(folder_ / "report.html"));
  int steps_seen = 0;
  train::RunEvents inner;
  inner.on_step = [&](const train::StepReport&) { ++steps_seen; };
  const train::RunEvents events = reports.events(inner);
  events.on_start(plan_);
  EXPECT_TRUE(test::says(page(), ">running<"));
  EXPECT_TRUE(test::says(page(), "a &lt;note&gt;"));
  for (std::int64_t i = 1; i <= 4; ++i) events.on_step(step(i));
  events.on_eval({.step = 4, .loss = 1.5});
  train::LayerSaturation layer{"model.vision_tower.encoder.layers.3.self_attn.q_proj", {}};
  layer.counts = {.inputs = 100, .outputs = 10, .output_max = 5};
  events.on_saturation(4, {layer});
  EXPECT_EQ(steps_seen, 4);
  reports.finish({});
  EXPECT_TRUE(test::says(page(), ">done<"));
  EXPECT_TRUE(test::says(page(), "vision layer 3 self_attn.q_proj\ninput below its bound: 0 %"));
  EXPECT_TRUE(test::says(page(), "output above its bound: 50 %"));
  EXPECT_TRUE(test::says(page(), "<h1>gemma-4</h1>"));
  EXPECT_TRUE(test::says(page(), "<th>bezel</th><td>9.9</td>"));
  EXPECT_TRUE(test::says(page(), "<th>lora_r</th><td>4</td>"));
  EXPECT_EQ(reports.problem(), "");
  EXPECT_FALSE(fs::is_empty(folder_ / "runs"));
}

TEST_F(RunReportsTest, ARunThatFailsSaysWhy) {
  {
    RunReports reports(config_, {});
    reports.events({}).on_start(plan_);
    reports.fail("the <disk> is full");
  }
  EXPECT_TRUE(test::says(page(), ">ended early<"));
  EXPECT_TRUE(test::says(page(), "the &lt;disk&gt; is full"));
}

TEST_F(RunReportsTest, ARunThatIsLeftShowsThatItEnded) {
  {
    RunReports reports(config_, {});
    reports.events({}).on_start(plan_);
  }
  EXPECT_TRUE(test::says(page(), ">ended early<"));
}

TEST_F(RunReportsTest, NothingIsWrittenBeforeTheStartNorUnasked) {
  { const RunReports reports(config_, {}); }
  config_.report_to = {"jsonl"};
  RunReports reports(config_, {});
  const train::RunEvents events = reports.events({});
  EXPECT_FALSE(events.on_saturation);
  events.on_start(plan_);
  events.on_step(step(1));
  reports.finish({});
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  EXPECT_EQ(reports.history().steps.size(), 1u);
}

TEST_F(RunReportsTest, AReportThatCannotBeWrittenDoesNotStopTheRun) {
  test::write_bytes(folder_ / "runs", "a file in the folder's place");
  fs::create_directory(folder_ / "report.html");
  RunReports reports(config_, {});
  const train::RunEvents events = reports.events({});
  events.on_start(plan_);
  events.on_step(step(1));
  reports.finish({});
  EXPECT_TRUE(test::says(reports.problem(), "report.html"));
}

// Steps that TensorBoard's file has, told by the records' lengths; fails when the file does not end with a record.
std::vector<std::int64_t> steps_in(const std::string& bytes) {
  std::vector<std::int64_t> steps;
  std::size_t at = 0;
  while (at + 12 <= bytes.size()) {
    std::uint64_t record_bytes = 0;
    std::memcpy(&record_bytes, bytes.data() + at, sizeof record_bytes);
    const std::string record = bytes.substr(at + 12, record_bytes);
    // Field 2, behind the 9 bytes of field 1: a step below 128 is one byte.
    if (record.size() > 10 && record[9] == 0x10) steps.push_back(record[10]);
    at += 12 + record_bytes + 4;
  }
  EXPECT_EQ(at, bytes.size());
  return steps;
}

TEST_F(RunReportsTest, AFullDiskCostsWhatFindsNoRoomAndNothingElse) {
  RunReports reports(config_, {});
  const train::RunEvents events = reports.events({});
  events.on_start(plan_);
  events.on_step(step(1));
  const std::string file = fs::directory_iterator(folder_ / "runs")->path().string();
  const std::string before = page();
  {
    const test::FileSizeLimit full(fs::file_size(file) + 20);  // a record is cut in the middle
    events.on_step(step(2));
    reports.finish({});
  }
  EXPECT_TRUE(test::says(reports.problem(), "File too large"));
  EXPECT_EQ(page(), before) << "a page that cannot be written leaves the one before";
  events.on_step(step(3));
  reports.finish({});
  EXPECT_EQ(steps_in(test::read_bytes(file)), (std::vector<std::int64_t>{1, 1, 3}));  // the first begins the session
  EXPECT_TRUE(test::says(page(), ">done<"));
}

TEST_F(RunReportsTest, GoesOnFromTheRowsOfMetrics) {
  test::write_bytes(
      folder_ / "metrics.jsonl",
      "{\"step\":1,\"epoch\":0.5,\"loss\":3,\"grad_norm\":1,\"learning_rate\":0.1,\"tokens_per_second\":9,"
      "\"peak_memory_bytes\":7}\n"
      "{\"step\":2,\"epoch\":1,\"eval_loss\":2.5}\n"
      "{\"step\":3,\"epoch\":1,\"loss\":null,\"grad_norm\":1,\"learning_rate\":0.1}\n");
  RunReports reports(config_, {});
  const train::RunEvents events = reports.events({});
  events.on_start(plan_);
  ASSERT_EQ(reports.history().steps.size(), 2u);
  EXPECT_EQ(reports.history().steps[0].memory_bytes, 7);
  ASSERT_EQ(reports.history().evals.size(), 1u);
  events.on_step(step(3));  // again, after a crash
  ASSERT_EQ(reports.history().steps.size(), 2u);
  EXPECT_EQ(reports.history().steps[1].loss, 2.5);
  EXPECT_EQ(reports.problem(), "");
}

}  // namespace
}  // namespace bezel::report
