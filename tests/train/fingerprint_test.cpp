#include "bezel/train/fingerprint.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace bezel::train {
namespace {

using test::TempFolder;
using test::write_bytes;

TEST(Fingerprint, ConfigFactsLeaveOutWhatChangesNoNumber) {
  TrainConfig a, b;
  b.output_dir = "elsewhere";
  b.save_steps = 7;
  b.logging_steps = 9;
  b.threads = 3;
  b.resume_from_checkpoint = "auto";
  b.gradient_checkpointing = true;
  b.dataloader_num_workers = 3;
  b.data_timeout_s = 5;
  EXPECT_EQ(config_facts(a), config_facts(b));
  b.learning_rate = 1e-3;
  b.seed = 7;
  b.micro_batch_size = 2;
  b.lora.rank = 4;
  b.packing = false;
  EXPECT_EQ(
      differences(config_facts(a), config_facts(b)),
      (std::vector<std::string>{"learning_rate: was 2.0e-04, is 0.001", "lora_r: was 16, is 4",
                                "micro_batch_size: was 1, is 2", "packing: was auto, is false", "seed: was 42, is 7"}));
}

TEST(Fingerprint, DifferencesNameWhatCameAndWent) {
  EXPECT_EQ(differences({{"a", "1"}, {"b", "2"}}, {{"b", "2"}, {"c", "3"}}),
            (std::vector<std::string>{"a: was 1, is not there", "c: was not there, is 3"}));
}

TEST(Fingerprint, FactsSurviveJson) {
  const RunFacts facts{{{"seed", "1"}}, {{"train_file", "ab"}}, {{"threads", "2"}}};
  const io::Json json = to_json(facts);
  EXPECT_EQ(to_json(read_run_facts(io::JsonView(json, "x"))), json);
}

class BaseFacts : public testing::Test {
 protected:
  BaseFacts() {
    write_bytes(folder / "config.json", "{}");
    write_weights(std::string(40'000, 'w'));
    before = base_facts(folder.path().string());
  }

  void write_weights(const std::string& data) {
    const std::string half = std::to_string(data.size() / 2), all = std::to_string(data.size());
    write_bytes(folder / "model.safetensors",
                test::safetensors_bytes(R"({"a":{"dtype":"U8","shape":[)" + half + R"(],"data_offsets":[0,)" + half +
                                            R"(]},"b":{"dtype":"U8","shape":[)" + half + R"(],"data_offsets":[)" +
                                            half + "," + all + "]}}",
                                        data));
  }

  std::vector<std::string> changed() { return differences(before, base_facts(folder.path().string())); }

  TempFolder folder;
  std::map<std::string, std::string> before;
};

TEST_F(BaseFacts, BeginMiddleAndEndOfAnyTensorCount) {
  EXPECT_TRUE(changed().empty());
  // Two tensors of 20,000 bytes.
  for (const std::size_t at : {0, 4095, 10'000, 19'999, 20'000, 30'000, 39'999}) {
    std::string data(40'000, 'w');
    data[at] = 'x';
    write_weights(data);
    ASSERT_EQ(changed().size(), 1u) << at;
    EXPECT_TRUE(changed()[0].starts_with("base_model/model.safetensors: was "));
  }
}

TEST_F(BaseFacts, SizesNamesAndSmallFilesCount) {
  write_weights(std::string(40'002, 'w'));
  EXPECT_EQ(changed().size(), 1u);
  write_weights(std::string(40'000, 'w'));
  write_bytes(folder / "config.json", "{ }");
  write_bytes(folder / "tokenizer.json", "{}");
  ASSERT_EQ(changed().size(), 2u);
  EXPECT_TRUE(changed()[0].starts_with("base_model/config.json: was "));
  EXPECT_TRUE(changed()[1].starts_with("base_model/tokenizer.json: was not there"));
}

}  // namespace
}  // namespace bezel::train
