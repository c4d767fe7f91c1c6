#include "bezel/data/modelfile.h"

#include <gtest/gtest.h>

#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::data {
namespace {

using test::GgufBytes;
using test::raw;

constexpr std::uint32_t kF32 = 6, kBool = 7;

/// Enough of a file to say what model it is: one sliding layer.
GgufBytes file_of(const std::string& architecture, std::uint32_t per_layer_input) {
  GgufBytes bytes;
  const auto count = [&](const std::string& name, std::uint32_t value) { bytes.key(architecture + "." + name, value); };
  bytes.key("general.architecture", architecture);
  count("block_count", 1);
  count("context_length", 64);
  count("embedding_length", 8);
  count("feed_forward_length", 8);
  count("attention.head_count", 1);
  count("attention.head_count_kv", 1);
  count("attention.key_length", 8);
  count("attention.sliding_window", 16);
  if (per_layer_input > 0) count("embedding_length_per_layer_input", per_layer_input);
  bytes.list(architecture + ".attention.sliding_window_pattern", kBool, 1, "\1");
  bytes.tensor("token_embd.weight", {8, 4}, 0, std::string(128, '\0'));
  bytes.tensor("per_layer_token_embd.weight", {8, 4}, 0, std::string(128, '\0'));
  bytes.tensor("blk.0.attn_k.weight", {8}, 0, std::string(32, '\0'));
  bytes.tensor("rope_freqs.weight", {4}, 0, raw(1.0f) + raw(1.0f) + raw(1.0f) + raw(1.0f));
  return bytes;
}

std::string modelfile_of(const GgufBytes& bytes) {
  const test::TempFolder folder;
  test::write_bytes(folder / "m.gguf", bytes.bytes());
  return ollama_modelfile(folder / "m.gguf");
}

TEST(Modelfile, SmallGemma4) {
  GgufBytes bytes = file_of("gemma4", 8);
  bytes.key("general.sampling.top_k", 64).key("general.sampling.temp", kF32, raw(0.5f));
  EXPECT_EQ(modelfile_of(bytes), R"(FROM ./m.gguf
TEMPLATE """{{- range .Messages }}<|turn>{{ if eq .Role "assistant" }}model{{ else }}{{ .Role }}{{ end }}
{{ .Content }}<turn|>
{{ end }}<|turn>model
"""
PARAMETER stop "<turn|>"
PARAMETER temperature 0.5
PARAMETER top_k 64
)");
}

TEST(Modelfile, LargeGemma4OpensWithAnEmptyThought) {
  EXPECT_TRUE(test::says(modelfile_of(file_of("gemma4", 0)), "<|turn>model\n<|channel>thought\n<channel|>\"\"\"\n"));
}

TEST(Modelfile, Gemma3PutsSystemTextsBeforeTheQuestion) {
  EXPECT_EQ(modelfile_of(file_of("gemma3", 0)), R"(FROM ./m.gguf
TEMPLATE """{{- $system := "" }}{{- range .Messages }}{{- if eq .Role "system" }}{{- $system = .Content }}{{- else }}<start_of_turn>{{ if eq .Role "assistant" }}model{{ else }}user{{ end }}
{{ if $system }}{{ $system }}

{{ end }}{{- $system = "" }}{{ .Content }}<end_of_turn>
{{ end }}{{ end }}<start_of_turn>model
"""
PARAMETER stop "<end_of_turn>"
)");
}

}  // namespace
}  // namespace bezel::data
