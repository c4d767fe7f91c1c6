#include "bezel/data/checkpoint_template.h"

#include <filesystem>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "bezel/io/json.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::says;
using test::write_bytes;

class CheckpointTemplates : public testing::Test {
 protected:
  std::string path() const { return folder.path().string(); }
  // What the template of the folder writes for an empty chat.
  std::string text(bool with_tools = false) const {
    const auto loaded = CheckpointTemplate::load(path());
    if (loaded == nullptr) return "none";
    jinja::Context context;
    context.variables = &loaded->special_tokens();
    return loaded->choose(with_tools).render(context).bytes();
  }
  std::string refusal() const {
    return error_of([&] { text(); });
  }
  void write_list(const std::string& name) const {
    const io::Json list = {{{"name", "rag"}, {"template", "R"}}, {{"name", name}, {"template", "N"}}};
    write_bytes(folder / "tokenizer_config.json", io::Json{{"chat_template", list}}.dump());
  }

  test::TempFolder folder;
};

TEST_F(CheckpointTemplates, AFolderMayHaveNone) {
  EXPECT_EQ(text(), "none");
  write_bytes(folder / "tokenizer_config.json", R"({"bos_token":"<bos>","chat_template":null})");
  EXPECT_EQ(text(), "none");
}

TEST_F(CheckpointTemplates, ThePlacesCountInTheOrderOfTransformers) {
  write_bytes(folder / "tokenizer_config.json", R"({"chat_template":"config"})");
  EXPECT_EQ(text(), "config");
  write_bytes(folder / "chat_template.json", R"({"chat_template":"json"})");
  EXPECT_EQ(text(), "json");
  write_bytes(folder / "chat_template.jinja", "jinja");
  EXPECT_EQ(text(), "jinja");
}

TEST_F(CheckpointTemplates, ToolsTakeTheTemplateForTools) {
  write_bytes(folder / "chat_template.jinja", "plain");
  EXPECT_EQ(text(/*with_tools=*/true), "plain");
  std::filesystem::create_directory(folder.path() / "additional_chat_templates");
  write_bytes(folder / "additional_chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(text(/*with_tools=*/true), "tools");
  EXPECT_EQ(text(), "plain");
}

TEST_F(CheckpointTemplates, OfAListTheDefaultCounts) {
  write_list("default");
  EXPECT_EQ(text(), "N");
  write_list("tool_use");
  EXPECT_TRUE(says(refusal(), "none of its chat templates is called default; name a file: chat_template: FILE"));
  EXPECT_EQ(text(/*with_tools=*/true), "N");
}

TEST_F(CheckpointTemplates, SpecialTokensAreThoseOfTheTokenizersConfig) {
  write_bytes(folder / "chat_template.jinja",
              "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ sep_token is defined }}");
  EXPECT_EQ(text(), "<bos><eos><pad>False");
  write_bytes(folder / "tokenizer_config.json", R"({"bos_token":{"content":"<s>"},"pad_token":null,"sep_token":"|"})");
  EXPECT_EQ(text(), "<s><eos>True");
}

TEST_F(CheckpointTemplates, AFileGoesBeforeTheCheckpoint) {
  write_bytes(folder / "chat_template.jinja", "own");
  write_bytes(folder / "other.jinja", "{% if %}");
  EXPECT_EQ(error_of([&] { CheckpointTemplate::load(path(), folder / "other.jinja"); }),
            (folder / "other.jinja") + ": line 1: expected an expression, found '%}'");
}

TEST_F(CheckpointTemplates, ATemplateThatDoesNotParseIsRefusedOnceItIsUsed) {
  write_bytes(folder / "chat_template.jinja", "a\n{% include 'x' %}");
  EXPECT_NE(CheckpointTemplate::load(path()), nullptr);
  EXPECT_EQ(refusal(),
            (folder / "chat_template.jinja") + ": line 2: {% include %} is not supported: a chat template is one file");
}

TEST_F(CheckpointTemplates, DamagedPlacesAreRefused) {
  write_bytes(folder / "tokenizer_config.json", R"({"chat_template":3})");
  EXPECT_TRUE(says(refusal(), "tokenizer_config.json: key 'chat_template': got 3, expected a string"));
  write_bytes(folder / "tokenizer_config.json", R"({"chat_template":[{"name":"default"}]})");
  EXPECT_TRUE(says(refusal(), "key 'chat_template[0].template' is missing"));
  write_bytes(folder / "tokenizer_config.json", "{");
  EXPECT_TRUE(says(refusal(), "tokenizer_config.json: not valid JSON"));
  write_bytes(folder / "chat_template.jinja", std::string((1 << 20) + 1, ' '));
  EXPECT_TRUE(says(refusal(), "chat_template.jinja: 1048577 bytes, at most 1048576 are read"));
  std::filesystem::remove(folder / "chat_template.jinja");
  ASSERT_EQ(::mkfifo((folder / "chat_template.jinja").c_str(), 0600), 0);
  EXPECT_EQ(refusal(), (folder / "chat_template.jinja") + ": not a regular file");
}

}  // namespace
}  // namespace bezel::data
