#include "bezel/quant/stored_format.h"

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "bezel/quant/options.h"
#include "tests/support/temp_folder.h"

namespace bezel::quant {
namespace {

StoredFormat format_of(const std::string& text) {
  const io::Json json = io::parse_json(text, "config.json");
  return read_stored_format(io::JsonView(json, "config.json"));
}

std::string error_of(const std::string& text) {
  try {
    format_of(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string compressed(const std::string& weights) {
  return R"({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups":
    {"group_0": {"targets": ["Linear"], "input_activations": null, "weights": )" +
         weights + "}}}}";
}

TEST(StoredFormat, KnowsTheMethodsThatAreRead) {
  EXPECT_EQ(format_of("{}").method, StoredFormat::Method::kNone);
  EXPECT_EQ(format_of(R"({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}})").method,
            StoredFormat::Method::kBitsandbytes);
  EXPECT_EQ(format_of(R"({"quantization_config": {"quant_method": "bezel"}})").method,
            StoredFormat::Method::kBitsandbytes);
  const StoredFormat packed = format_of(compressed(R"({"num_bits": 4, "type": "int", "symmetric": true})"));
  EXPECT_EQ(packed.method, StoredFormat::Method::kCompressedTensors);
  EXPECT_EQ(packed.num_bits, 4);
}

TEST(StoredFormat, RefusesOthersByName) {
  EXPECT_NE(error_of(R"({"quantization_config": {"quant_method": "gptq"}})").find("gptq"), std::string::npos);
  EXPECT_NE(error_of(R"({"quantization_config": {}})").find("quant_method"), std::string::npos);
  EXPECT_NE(error_of(compressed(R"({"num_bits": 3, "type": "int"})")).find("4 or 8"), std::string::npos);
  EXPECT_NE(error_of(compressed(R"({"num_bits": 4, "type": "float"})")).find("'int'"), std::string::npos);
  EXPECT_NE(error_of(compressed(R"({"num_bits": 4, "type": "int", "symmetric": false})")).find("symmetric"),
            std::string::npos);
}

TEST(StoredFormat, EveryRefusalSaysWhichCheckpointToTake) {
  const std::string sizes = R"("text_config": {"hidden_size": 1536, "num_hidden_layers": 35}, )";
  const auto refused = [&](const std::string& section) { return error_of("{" + sizes + section + "}"); };
  const auto takes_base = [](const std::string& text) {
    return text.find("take the checkpoint in bfloat16") != std::string::npos &&
           text.find("google/gemma-4-E2B") != std::string::npos;
  };
  for (const char* method : {"awq", "gptq", "fp8", "mxfp4", "modelopt", "some_later_form"})
    EXPECT_TRUE(takes_base(refused(R"("quantization_config": {"quant_method": ")" + std::string(method) + "\"}")))
        << method;
  EXPECT_TRUE(takes_base(refused(R"("quantization": {"group_size": 64, "bits": 4})")));
  const auto group = [](const std::string& weights) {
    return R"({"input_activations": null, "weights": )" + weights + "}";
  };
  const std::string four = R"({"num_bits": 4, "type": "int"})", eight = R"({"num_bits": 8, "type": "int"})";
  const auto compressed_tensors = [&](const std::string& format, const std::string& groups) {
    return refused(R"("quantization_config": {"quant_method": "compressed-tensors", "format": ")" + format +
                   R"(", "config_groups": {)" + groups + "}}");
  };
  EXPECT_TRUE(takes_base(compressed_tensors("nvfp4-pack-quantized", R"("a": )" + group(four))));
  EXPECT_TRUE(takes_base(compressed_tensors("float-quantized", R"("a": )" + group(four))));
  const std::string mixed =
      compressed_tensors("pack-quantized", R"("a": )" + group(four) + R"(, "b": )" + group(eight));
  EXPECT_TRUE(takes_base(mixed) && mixed.find("mixed") != std::string::npos) << mixed;
  const std::string ordered = compressed_tensors(
      "pack-quantized", R"("a": )" + group(R"({"num_bits": 4, "type": "int", "actorder": "group"})"));
  EXPECT_TRUE(takes_base(ordered) && ordered.find("actorder") != std::string::npos) << ordered;
  EXPECT_EQ(error_of(compressed(R"({"num_bits": 4, "type": "int", "actorder": "weight"})")), "");
}

TEST(StoredFormat, TheModelCardNamesTheBase) {
  const test::TempFolder folder;
  test::write_bytes(folder / "README.md", "---\nlicense: gemma\nbase_model:\n- some/base-it\n---\n# A model\n");
  const io::Json json = {{"quantization_config", {{"quant_method", "awq"}}}};
  const std::string refusal = test::error_of([&] { read_stored_format(io::JsonView(json, folder / "config.json")); });
  EXPECT_TRUE(test::says(refusal, "(some/base-it)"));
}

TEST(QuantState, ReadsWhatBitsandbytesWrites) {
  const QuantState state = read_quant_state(
      R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 16], "nested_blocksize": 256,
          "nested_dtype": "float32", "nested_offset": 0.25})",
      "w");
  EXPECT_EQ(state.quant_type, "nf4");
  EXPECT_EQ(state.shape, (std::vector<std::int64_t>{8, 16}));
  EXPECT_TRUE(state.nested);
  EXPECT_DOUBLE_EQ(state.nested_offset, 0.25);
}

TEST(QuantState, RefusesWhatCannotBe) {
  for (const char* text :
       {R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [8,)", "{}", "",
        R"({"quant_type": "nf8", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 16]})",
        R"({"quant_type": "nf4", "blocksize": 0, "dtype": "bfloat16", "shape": [8, 16]})",
        R"({"quant_type": "nf4", "blocksize": 64.0, "dtype": "bfloat16", "shape": [8, 16]})",
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "int7", "shape": [8, 16]})",
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [-8, 16]})",
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 16], "nested_blocksize": 256})"})
    EXPECT_THROW(read_quant_state(text, "w"), Error) << text;
}

TEST(QuantizeSkip, HasTheMeaningOfTransformers) {
  const std::string name = "model.language_model.layers.1.mlp.gate_proj";
  EXPECT_TRUE(is_skipped(name, {"gate_proj"}));                         // an end
  EXPECT_TRUE(is_skipped(name, {"model.language_model"}));              // a start, up to a boundary
  EXPECT_TRUE(is_skipped(name, {"model\\..*\\.1"}));                    // a regex from the start
  EXPECT_TRUE(is_skipped(name, {"nothing", "model.language_model."}));  // a start that ends at one
  EXPECT_FALSE(is_skipped(name, {"model.lang"}));
  EXPECT_FALSE(is_skipped(name, {"language_model"}));
  EXPECT_FALSE(is_skipped("model.language_model.layers.11.mlp", {"model.language_model.layers.1"}));
  EXPECT_FALSE(is_skipped(name, {}));
  EXPECT_THROW(is_skipped(name, {"("}), Error);
}

}  // namespace
}  // namespace bezel::quant
