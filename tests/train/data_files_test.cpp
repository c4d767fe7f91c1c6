#include "bezel/train/data_files.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace bezel::train {
namespace {

TrainConfig parse(const std::string& yaml, const std::vector<std::string>& flags = {}) {
  return parse_train_config(yaml, "c.yaml", parse_overrides(flags), false);
}

std::string refusal(const std::string& yaml) {
  return test::error_of([&] { parse(yaml); });
}

std::vector<std::string> paths(const std::vector<data::SampleFile>& files) {
  std::vector<std::string> out;
  for (const data::SampleFile& file : files) out.push_back(file.path);
  return out;
}

using Paths = std::vector<std::string>;
using Names = data::ColumnMap::Names;

TEST(DataFiles, AFolderHoldsTrainAndValid) {
  const test::TempFolder folder;
  TrainConfig config;
  config.train_file = folder.path().string();
  const auto eval = [&] { return paths(find_data_files(config).eval); };
  const auto error = [&] { return test::error_of([&] { find_data_files(config); }); };
  EXPECT_TRUE(test::says(error(), "no train file"));
  test::write_bytes(folder / "train.jsonl", "{}");
  EXPECT_EQ(paths(find_data_files(config).train), Paths{folder / "train.jsonl"});
  EXPECT_TRUE(eval().empty());
  test::write_bytes(folder / "valid.jsonl", "{}");
  EXPECT_EQ(eval(), Paths{folder / "valid.jsonl"});
  config.val_set_size = 0.5;  // held out of train.jsonl, as asked
  EXPECT_TRUE(eval().empty());
  config.val_set_size = 0;
  config.eval_file = folder / "train.jsonl";
  config.media_root = "elsewhere";
  EXPECT_EQ(eval(), Paths{folder / "train.jsonl"});
  EXPECT_EQ(find_data_files(config).train[0].media_root, "elsewhere");
  test::write_bytes(folder / "dev.jsonl", "{}");
  EXPECT_EQ(eval(), Paths{folder / "train.jsonl"}) << "eval_file says which";
  config.eval_file.clear();
  EXPECT_TRUE(test::says(error(), "name one of them as eval_file"));
  config.eval_file = folder / "none.jsonl";
  EXPECT_TRUE(test::says(error(), "eval_file"));
}

TEST(DataFiles, ADataSetOfTheHubIsNamedWithTheLineThatSavesIt) {
  TrainConfig config;
  config.train_file = "trl-lib/Capybara";
  const std::string message = test::error_of([&] { find_data_files(config); });
  EXPECT_TRUE(test::says(message, "train_file 'trl-lib/Capybara': no such file or folder"));
  EXPECT_TRUE(test::says(message, "load_dataset('trl-lib/Capybara', split='train').to_json('train.jsonl'"));
}

TEST(Datasets, ListsOfAxolotl) {
  const TrainConfig config = parse(
      "datasets:\n"
      "  - path: a.jsonl\n    type: chat_template\n    field_messages: dialog\n"
      "    message_property_mappings: {role: from, content: value}\n"
      "    roles: {user: [human, customer], assistant: [gpt]}\n    roles_to_train: [assistant]\n    train_on_eos: "
      "turn\n"
      "  - path: b.jsonl\n    ds_type: json\n    type: completion\n    field: body\n    weight: 2\n    split: "
      "'train[:10%]'\n"
      "  - path: json\n    data_files: [c.jsonl, d.jsonl]\n    max_samples: 5\n    trust_remote_code: true\n"
      "  - path: f\n    split: validation\n"
      "  - e.jsonl\n");
  ASSERT_EQ(config.datasets.size(), 6u);
  const data::SampleFile& chat = config.datasets[0].file;
  EXPECT_EQ(chat.path, "a.jsonl");
  EXPECT_EQ(chat.columns.columns, (Names{{"messages", "dialog"}}));
  EXPECT_EQ(chat.columns.message_keys, (Names{{"role", "from"}, {"content", "value"}}));
  EXPECT_EQ(chat.columns.roles, (Names{{"human", "user"}, {"customer", "user"}, {"gpt", "assistant"}}));
  EXPECT_EQ(config.datasets[1].file.columns.columns, (Names{{"text", "body"}}));
  EXPECT_EQ(config.datasets[1].file.weight, 2.0);
  EXPECT_EQ(config.datasets[1].file.first_share, 0.1);
  EXPECT_EQ(config.datasets[3].file.path, "d.jsonl");
  EXPECT_EQ(config.datasets[3].file.max_samples, 5u);
  EXPECT_EQ(config.datasets[4].split, "validation");
  EXPECT_EQ(config.datasets[5].file.path, "e.jsonl");
  EXPECT_EQ(to_yaml(parse(to_yaml(config))), to_yaml(config)) << "the resolved config reads back";
  EXPECT_EQ(train_data_names(config), "a.jsonl, b.jsonl, c.jsonl, d.jsonl, f, e.jsonl");
}

TEST(Datasets, WhatWouldBeReadOtherwiseIsRefusedWithItsLine) {
  const auto item = [](const std::string& rest) { return refusal("datasets:\n  - path: a.jsonl\n" + rest); };
  EXPECT_TRUE(test::says(item("    type: pygmalion\n"), "c.yaml:3: key 'type'"));
  EXPECT_TRUE(test::says(item("    shards: 10\n"), "weight: 0.1"));
  EXPECT_TRUE(test::says(item("    train_on_eos: last\n"), "c.yaml:3: key 'train_on_eos'"));
  EXPECT_TRUE(test::says(item("    filed_messages: x\n"), "did you mean 'field_messages'?"));
  EXPECT_TRUE(test::says(item("    weight: 0\n"), "c.yaml:3: key 'weight'"));
  EXPECT_TRUE(test::says(item("    split: 'train[50%:]'\n"), "train[:10%]"));
  EXPECT_TRUE(test::says(item("    ds_type: parquet\n"), "JSON Lines"));
  EXPECT_TRUE(test::says(item("    columns: {choosen: x}\n"), "'choosen'"));
  EXPECT_TRUE(test::says(refusal("datasets:\n  - type: alpaca\n"), "path"));
  EXPECT_TRUE(test::says(refusal("datasets:\n  - path: json\n"), "data_files"));
  EXPECT_EQ(parse("datasets: [{path: a.jsonl, type: alpaca}]").notes.size(), 1u);
}

TEST(Datasets, AFlagTakesTheirPlace) {
  const std::vector<std::string> flag = {"--train-file", "x.jsonl"};
  for (const char* yaml :
       {"datasets: [{path: a.jsonl}]", "dataset: identity", "dataset_name: trl-lib/Capybara", "train_file: y.jsonl"}) {
    const TrainConfig config = parse(yaml, flag);
    EXPECT_EQ(config.train_file, "x.jsonl") << yaml;
    EXPECT_TRUE(config.datasets.empty() && config.dataset.empty()) << yaml;
  }
  EXPECT_EQ(parse("val_set_size: 0.1", {"--eval-file", "e.jsonl"}).val_set_size, 0.0);
}

class NamedDatasets : public testing::Test {
 protected:
  void SetUp() override {
    test::write_bytes(folder_ / "one.json", "[]");
    test::write_bytes(folder_ / "two.jsonl", "");
    test::write_bytes(folder_ / "dataset_info.json", R"({
      "alpaca_like": {"file_name": "one.json", "num_samples": 3,
                      "columns": {"prompt": "ask", "query": "with", "response": "say", "history": "past"}},
      "chat_like": {"file_name": "two.jsonl", "formatting": "sharegpt",
                    "columns": {"messages": "turns", "system": "sys", "images": "pics"},
                    "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "u", "assistant_tag": "a",
                             "observation_tag": "o", "function_tag": "f", "system_tag": "s"}},
      "hub": {"hf_hub_url": "somebody/data"},
      "pairs": {"file_name": "one.json", "ranking": true, "columns": {"chosen": "c", "rejected": "r"}},
      "odd": {"file_name": "one.json", "colums": {}}})");
  }

  DataFiles find(const std::string& names) {
    return find_data_files(parse("dataset: " + names + "\ndataset_dir: " + folder_.path().string() + "\n"));
  }
  std::string error(const std::string& names) {
    return test::error_of([&] { find(names); });
  }

  test::TempFolder folder_;
};

TEST_F(NamedDatasets, AreThoseOfDatasetInfo) {
  const DataFiles files = find("alpaca_like,chat_like");
  ASSERT_EQ(files.train.size(), 2u);
  EXPECT_EQ(files.train[0].path, folder_ / "one.json");
  EXPECT_EQ(files.train[0].max_samples, 3u);
  EXPECT_EQ(files.train[0].columns.columns,
            (Names{{"instruction", "ask"}, {"input", "with"}, {"output", "say"}, {"history", "past"}}));
  EXPECT_EQ(files.train[1].columns.columns, (Names{{"messages", "turns"}, {"system", "sys"}, {"images", "pics"}}));
  EXPECT_EQ(files.train[1].columns.message_keys, (Names{{"role", "who"}, {"content", "what"}}));
  EXPECT_EQ(files.train[1].columns.roles,
            (Names{{"u", "user"}, {"a", "assistant"}, {"o", "observation"}, {"f", "function_call"}, {"s", "system"}}));
  const TrainConfig config =
      parse("dataset: [chat_like]\nmax_samples: 2\ndataset_dir: " + folder_.path().string() + "\n");
  EXPECT_EQ(find_data_files(config).train[0].max_samples, 2u);
}

TEST_F(NamedDatasets, WhatIsMissingOrMeansSomethingElseIsNamed) {
  EXPECT_TRUE(test::says(error("chat_lik"), "did you mean 'chat_like'?"));
  EXPECT_TRUE(test::says(error("zzzzzzzzzz"), "alpaca_like, chat_like"));
  EXPECT_TRUE(test::says(error("hub"), "key 'hub.hf_hub_url'"));
  EXPECT_TRUE(test::says(error("hub"), "somebody/data"));
  EXPECT_EQ(find("pairs").train[0].columns.columns, (Names{{"chosen", "c"}, {"rejected", "r"}}));
  EXPECT_TRUE(test::says(error("odd"), "key 'odd.colums'"));
  const std::string message =
      test::error_of([] { find_data_files(parse("dataset: identity\ndataset_dir: /nowhere\n")); });
  EXPECT_TRUE(test::says(message, "no file /nowhere/dataset_info.json"));
  EXPECT_TRUE(test::says(message, "train_file"));
}

}  // namespace
}  // namespace bezel::train
