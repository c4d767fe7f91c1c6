#include "bezel/data/template_check.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "bezel/io/json.h"
#include "support/temp_folder.h"

namespace bezel::data {
namespace {

using test::error_of;
using test::says;
using test::write_bytes;

const std::string kGemma4 = "{{ '<|turn>' + role + '\\n' + content + '<turn|>' }}";
const std::string kGemma3 = "{{ '<start_of_turn>' + role + '\\n' + content + '<end_of_turn>' }}";

std::string json_of(const std::string& text) { return io::Json{{"chat_template", text}}.dump(); }

class TemplateCheck : public testing::Test {
 protected:
  std::string found() const { return foreign_template_warning(folder.path().string(), ChatFormat::kEdge); }
  std::string refusal() const {
    return error_of([&] { found(); });
  }

  test::TempFolder folder;
};

TEST_F(TemplateCheck, NoTemplateNeedsNoWarning) {
  EXPECT_EQ(found(), "");
  write_bytes(folder / "tokenizer_config.json", R"({"bos_token":"<bos>","chat_template":null})");
  EXPECT_EQ(found(), "");
}

TEST_F(TemplateCheck, GemmaFourIsKnownByItsTurns) {
  write_bytes(folder / "chat_template.jinja", kGemma4);
  EXPECT_EQ(found(), "");
}

TEST_F(TemplateCheck, EveryPlaceOfAForeignTemplateIsNamed) {
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {  // each goes before those written earlier
    write_bytes(folder / name, json_of(kGemma3));
    EXPECT_EQ(found().find(folder / name), 0u) << found();
  }
  write_bytes(folder / "chat_template.jinja", kGemma3);
  EXPECT_EQ(found().find(folder / "chat_template.jinja"), 0u);
  EXPECT_TRUE(says(found(), "renders the Gemma 4 format"));
  EXPECT_TRUE(says(found(), "chat_format: edge or chat_format: large"));
}

TEST_F(TemplateCheck, AGemmaThreeModelIsGivenTheTemplateOfGemmaThree) {
  write_bytes(folder / "chat_template.jinja", kGemma3);
  EXPECT_EQ(foreign_template_warning(folder.path().string(), ChatFormat::kGemma3), "");
  write_bytes(folder / "chat_template.jinja", kGemma4);
  const std::string warning = foreign_template_warning(folder.path().string(), ChatFormat::kGemma3);
  EXPECT_TRUE(says(warning, "no <start_of_turn> and <end_of_turn> in it"));
  EXPECT_TRUE(says(warning, "chat_format: gemma3 if that"));
}

TEST_F(TemplateCheck, OneMarkAloneIsNotEnough) {
  for (const char* text : {"<|turn>", "<turn|>", ""}) {
    write_bytes(folder / "chat_template.jinja", text);
    EXPECT_NE(found(), "") << text;
  }
}

TEST_F(TemplateCheck, TheFirstPlaceCounts) {
  write_bytes(folder / "tokenizer_config.json", json_of(kGemma3));
  write_bytes(folder / "chat_template.jinja", kGemma4);
  EXPECT_EQ(found(), "");
}

TEST_F(TemplateCheck, OfAListTheDefaultCounts) {
  const auto write_list = [&](const std::string& name, const std::string& text) {
    const io::Json list = {{{"name", "tool_use"}, {"template", kGemma4}}, {{"name", name}, {"template", text}}};
    write_bytes(folder / "tokenizer_config.json", io::Json{{"chat_template", list}}.dump());
  };
  write_list("default", kGemma4);
  EXPECT_EQ(found(), "");
  write_list("default", kGemma3);
  EXPECT_NE(found(), "");
  write_list("rag", kGemma3);
  EXPECT_EQ(found(), "");
}

TEST_F(TemplateCheck, DamagedPlacesAreRefused) {
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
