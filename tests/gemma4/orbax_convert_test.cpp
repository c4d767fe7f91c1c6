#include "bezel/gemma4/orbax_convert.h"

#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "bezel/gemma4/orbax_tensor.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_folder.h"

namespace bezel::gemma4 {
namespace {

using test::error_of;
using test::raw;
using test::says;
using test::TempFolder;
using test::write_bytes;

constexpr const char* kConfig =
    R"({"model_type":"gemma4_text","hidden_size":4,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":1,)"
    R"("num_key_value_heads":1,"head_dim":2,"global_head_dim":2})";

/// A checkpoint of plain files with arrays of one dimension and two numbers.
class Folder {
 public:
  Folder() {
    write_bytes(folder_ / "tokenizer.json", "{}");
    write_bytes(folder_ / "config.json", kConfig);
  }
  void add(const std::string& top, const std::string& leaf, float first, float second) {
    entries_ += (entries_.empty() ? "\"" : ",\"") + top + leaf + R"(":{"key_metadata":[{"key":")" + top +
                R"("},{"key":")" + leaf + R"("}]})";
    const std::filesystem::path array = folder_.path() / (top + "." + leaf);
    std::filesystem::create_directories(array);
    write_bytes((array / ".zarray").string(),
                R"({"zarr_format":2,"order":"C","dtype":"<f4","shape":[2],"chunks":[2],"compressor":null})");
    write_bytes((array / "0").string(), raw(first) + raw(second));
    write_bytes(folder_ / "_METADATA", R"({"use_ocdbt":false,"tree_metadata":{)" + entries_ + "}}");
  }
  OrbaxPlan plan(bool tokenizer = true) const {
    const std::string path = folder_.path();
    return plan_orbax({.model = path,
                       .tokenizer = tokenizer ? path : path + "/nowhere",
                       .config = path + "/config.json",
                       .dtype = io::DType::kBF16});
  }
  std::string complaint(bool tokenizer = true) const {
    return error_of([&] { plan(tokenizer); });
  }

 private:
  TempFolder folder_;
  std::string entries_;
};

TEST(OrbaxConvert, ListsWhatItDoesNotUse) {
  Folder folder;
  folder.add("final_norm", "scale", 2, 3);
  folder.add("embedder", "mm_input_embedding_extra", 5, 6);
  folder.add("embedder.mm_soft_embedding_norm", "scale", 1, 1);
  const OrbaxPlan plan = folder.plan();
  EXPECT_EQ(plan.unused,
            (std::vector<std::string>{"embedder.mm_input_embedding_extra", "embedder.mm_soft_embedding_norm.scale"}));
  ASSERT_EQ(plan.checkpoint.parts.size(), 1u);
  EXPECT_EQ(plan.checkpoint.parts[0].tensors[0].name, "model.norm.weight");
  EXPECT_TRUE(plan.rounds);
  EXPECT_EQ(plan.checkpoint.config["dtype"], "bfloat16");
}

TEST(OrbaxConvert, RefusesAnUnusedScaleThatIsNotOne) {
  Folder folder;
  folder.add("embedder.mm_soft_embedding_norm", "scale", 1, 1.5f);
  EXPECT_TRUE(says(folder.complaint(), "array 'embedder.mm_soft_embedding_norm.scale' is a scale that Gemma 4 has no"));
  EXPECT_TRUE(says(folder.complaint(), "1 of its 2 numbers are not 1"));
}

TEST(OrbaxConvert, RefusesOneArrayInTwoSpellingsAndAMissingTokenizer) {
  Folder folder;
  folder.add("final_norm", "scale", 2, 3);
  EXPECT_TRUE(says(folder.complaint(false), "tokenizer.json is not there"));
  folder.add("params.final_norm", "scale", 2, 3);
  EXPECT_TRUE(says(folder.complaint(), "is there in two spellings"));
}

TEST(OrbaxTensor, RoundsToNearestEven) {
  // Bits of float32, and the upper half of the nearest bfloat16: ties to even, overflow to infinity, NaN stays NaN.
  const std::pair<std::uint32_t, std::uint16_t> cases[] = {
      {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x3f807fff, 0x3f80},
      {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80}, {0x80000000, 0x8000}, {0x7f800001, 0x7fc0}, {0x00000001, 0x0000}};
  for (const auto& [bits, wanted] : cases) {
    const auto bytes = std::as_bytes(std::span(&bits, 1));
    const std::vector<std::byte> rounded = convert_elements(bytes, io::DType::kF32, io::DType::kBF16);
    ASSERT_EQ(rounded.size(), 2u);
    std::uint16_t half = 0;
    std::memcpy(&half, rounded.data(), sizeof half);
    EXPECT_EQ(half, wanted) << std::hex << bits;
    const std::vector<std::byte> wide = convert_elements(rounded, io::DType::kBF16, io::DType::kF32);
    std::uint32_t back = 0;
    std::memcpy(&back, wide.data(), sizeof back);
    EXPECT_EQ(back, std::uint32_t{wanted} << 16);
  }
}

}  // namespace
}  // namespace bezel::gemma4
