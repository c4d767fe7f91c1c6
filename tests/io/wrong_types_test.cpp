// Every key of every JSON file of a checkpoint or adapter, given every value that it should not have: each is read or
// refused by the file's name, and nothing else happens.
#include <filesystem>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "bezel/data/checkpoint_template.h"
#include "bezel/data/processor_config.h"
#include "bezel/data/tokenizer.h"
#include "bezel/gemma4/config.h"
#include "bezel/generate/settings.h"
#include "bezel/lora/config.h"
#include "bezel/lora/match.h"
#include "bezel/quant/stored_format.h"
#include "tests/support/temp_folder.h"

namespace bezel {
namespace {

using io::Json;

const std::string kModel = std::string(BEZEL_TEST_DATA) + "/../../demo/model/";

std::vector<Json> bad_values() {
  return {nullptr,
          true,
          -1,
          0,
          2.5,
          1e300,
          std::uint64_t{1} << 63,
          std::numeric_limits<std::int64_t>::min(),
          "",
          "x",
          std::string("\n\x1b[2J"),
          std::string(10'000, '('),
          "(a|a)*b",
          Json::array(),
          Json::object(),
          Json::array({Json::array({Json::object()})}),
          Json::object({{"", -1}}),
          std::vector<int>(1000, 7)};
}

/// Calls `visit` for every value inside `json`, itself included; what it does to the value is undone.
void each_value(Json& json, const std::function<void(Json&)>& visit) {
  const Json before = json;
  visit(json);
  json = before;
  if (!json.is_structured()) return;
  for (auto& value : json) each_value(value, visit);
}

/// Gives every value in the file every bad value in turn, and reads it. Returns how many were refused.
std::size_t spoil(Json json, const std::string& name, const std::function<void(const Json&)>& read) {
  std::size_t num_refused = 0;
  const auto read_one = [&](const std::string& what) {
    try {
      read(json);
    } catch (const Error& error) {
      ++num_refused;
      EXPECT_TRUE(error.kind() == ErrorKind::kConfig || test::says(error.what(), name)) << what;
    } catch (const std::exception& error) {
      ADD_FAILURE() << name << " with " << what << ": " << error.what();
    }
  };
  read_one("nothing changed");
  EXPECT_EQ(num_refused, 0u) << name << " as it is";
  for (const Json& bad : bad_values())
    each_value(json, [&](Json& value) {
      value = bad;
      read_one(bad.dump().substr(0, 40));
    });
  return num_refused;
}

Json file_of(const std::string& name) { return io::read_json_file(kModel + name); }

/// What reads a folder reads one with this file alone in it.
std::function<void(const Json&)> in_folder(const test::TempFolder& folder, const std::string& name,
                                           const std::function<void(const std::string&)>& read) {
  return [&folder, name, read](const Json& json) {
    test::write_bytes(folder / name, json.dump());
    read(folder.path().string());
  };
}

TEST(WrongTypes, InAModelsConfig) {
  const auto read = [](const Json& json) { gemma4::read_model_config(io::JsonView(json, "config.json")); };
  EXPECT_GT(spoil(file_of("config.json"), "config.json", read), 300u);
}

TEST(WrongTypes, InAQuantizationConfig) {
  const auto read = [](const Json& json) { quant::read_stored_format(io::JsonView(json, "config.json")); };
  const Json nf4 = {{"quant_method", "bitsandbytes"},
                    {"load_in_4bit", true},
                    {"bnb_4bit_quant_type", "nf4"},
                    {"bnb_4bit_use_double_quant", true},
                    {"llm_int8_skip_modules", {"lm_head"}}};
  EXPECT_GT(spoil({{"quantization_config", nf4}}, "config.json", read), 10u);
}

TEST(WrongTypes, InWhatTheProcessorReads) {
  const test::TempFolder folder;
  EXPECT_GT(spoil(file_of("processor_config.json"), "processor_config.json",
                  in_folder(folder, "processor_config.json", data::read_processor_config)),
            100u);
}

TEST(WrongTypes, InTheTokenizersConfig) {
  const test::TempFolder folder;
  Json json = file_of("tokenizer_config.json");
  json["chat_template"] = Json::array({{{"name", "default"}, {"template", "<|turn><turn|>"}}});
  const auto read = [](const std::string& path) { data::CheckpointTemplate::load(path); };
  EXPECT_GT(spoil(json, "tokenizer_config.json", in_folder(folder, "tokenizer_config.json", read)), 10u);
}

TEST(WrongTypes, InTheGenerationConfig) {
  const test::TempFolder folder;
  const data::Tokenizer tokenizer = data::Tokenizer::from_file(kModel + "tokenizer.json");
  // Read where the file says nothing of the ids that end a text.
  std::filesystem::copy_file(kModel + "config.json", folder.path() / "config.json");
  Json json = file_of("generation_config.json");
  json.update({{"do_sample", true}, {"temperature", 0.5}, {"top_k", 3}, {"top_p", 0.5}, {"max_new_tokens", 7}});
  const auto read = [&](const std::string& path) { generate::read_settings(path, tokenizer); };
  EXPECT_GT(spoil(json, "generation_config.json", in_folder(folder, "generation_config.json", read)), 30u);
}

TEST(WrongTypes, InAnAdaptersConfig) {
  Json json =
      lora::adapter_config_json({.rank = 4, .alpha = 8}, {{"a.q_proj", 2, 8}, {"b.v_proj", 4, 3.5}}, "base", "Arch");
  const auto read = [](const Json& value) {
    const lora::LoraConfig config = lora::parse_adapter_config(value, "adapter_config.json").lora;
    const lora::ModuleMatcher targets(config.target_modules, "target_modules");
    const lora::ModuleMatcher excluded(config.exclude_modules, "exclude_modules");
    const lora::PatternTable ranks(config.rank_pattern, "rank_pattern");
    targets.matches({"model.language_model.layers.0.self_attn.q_proj"});
    excluded.matches({"model.language_model.layers.0.self_attn.q_proj"});
    ranks.find({"model.language_model.layers.0.self_attn.q_proj"}, 1);
  };
  EXPECT_GT(spoil(json, "adapter_config.json", read), 100u);
}

TEST(WrongTypes, InATokenizer) {
  Json json = file_of("tokenizer.json");
  // Of the tables a few: their own test has the rest.
  Json words = Json::object();
  for (const char* word : {"<unk>", "a", "b", "ab"}) words[word] = words.size();
  json["model"].update({{"vocab", words},
                        {"merges", Json::array({Json::array({"a", "b"})})},
                        {"byte_fallback", false},
                        {"unk_token", "<unk>"}});
  json["added_tokens"] = Json::array({{{"id", 4}, {"content", "<bos>"}, {"special", true}, {"normalized", false}}});
  json["post_processor"]["special_tokens"]["<bos>"]["ids"] = Json::array({4});
  const auto read = [](const Json& value) {
    data::Tokenizer::from_json(value.dump(), "tokenizer.json").encode("ab <bos> a", true);
  };
  EXPECT_GT(spoil(json, "tokenizer.json", read), 200u);
}

}  // namespace
}  // namespace bezel
