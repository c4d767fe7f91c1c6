#include "bezel/quant/stored.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "bezel/error.h"
#include "bezel/quant/quant_scheme.h"
#include "support/temp_folder.h"

namespace bezel::quant {
namespace {

using test::error_of;
using test::says;
using torch::Tensor;

const std::vector<std::int64_t> kShape = {6, 160};
const std::string kState = "weight.quant_state.bitsandbytes__nf4";

Tensor matrix() {
  torch::manual_seed(2);
  return torch::randn(kShape);
}

StoredParts nf4(bool double_quant = true) { return encode({.double_quant = double_quant}, matrix()); }
StoredParts int8() { return encode({.kind = QuantScheme::Kind::kInt8}, matrix()); }

Tensor bytes_of(const std::string& text) {
  Tensor bytes = at::empty({static_cast<std::int64_t>(text.size())}, at::kByte);
  std::ranges::copy(text, bytes.data_ptr<std::uint8_t>());
  return bytes;
}

std::string text_of(const Tensor& bytes) {
  return {reinterpret_cast<const char*>(bytes.const_data_ptr<std::uint8_t>()), static_cast<std::size_t>(bytes.numel())};
}

// The state with `from` replaced by `to`.
Tensor edited_state(const StoredParts& parts, const std::string& from, const std::string& to) {
  std::string text = text_of(parts.at(kState));
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << text;
  return bytes_of(text.replace(at, from.size(), to));
}

std::string refusal(const StoredParts& parts, StoredFormat format = {.method = StoredFormat::Method::kBitsandbytes}) {
  return error_of([&] { stored_weight(parts, kShape, format, "file: matrix 'm'"); });
}

TEST(StoredWeight, ReadsWhatIsEncoded) {
  const StoredFormat format{.method = StoredFormat::Method::kBitsandbytes};
  for (const StoredParts& parts : {nf4(), nf4(false), int8(), encode({.type = FourBitType::kFp4}, matrix())}) {
    const Tensor values = stored_weight(parts, kShape, format, "m")->dequantize(torch::kFloat);
    EXPECT_LT((values - matrix()).norm().item<double>(), 0.2 * matrix().norm().item<double>());
  }
}

// bnb_4bit_quant_storage: the same bytes under the type of the other weights, as FSDP wants them.
TEST(StoredWeight, CodesMayBeStoredAsAnotherType) {
  const StoredFormat format{.method = StoredFormat::Method::kBitsandbytes};
  const Tensor wanted = stored_weight(nf4(), kShape, format, "m")->dequantize(torch::kFloat);
  for (const auto type : {torch::kBFloat16, torch::kHalf, torch::kFloat, torch::kChar}) {
    StoredParts parts = nf4();
    parts["weight"] = parts.at("weight").flatten().view(type).unsqueeze(1);
    EXPECT_TRUE(is_quantized(parts));
    EXPECT_TRUE(torch::equal(stored_weight(parts, kShape, format, "m")->dequantize(torch::kFloat), wanted)) << type;
  }
}

TEST(StoredWeight, LayoutIsKnownBeforeTheCodesAre) {
  for (const QuantScheme form : {QuantScheme{}, QuantScheme{.type = FourBitType::kFp4, .double_quant = false},
                                 QuantScheme{.kind = QuantScheme::Kind::kInt8}}) {
    const StoredParts parts = encode(form, matrix());
    const auto layout = layout_of(form, kShape);
    EXPECT_EQ(layout.size(), parts.size());
    for (const PartLayout& part : layout) {
      ASSERT_TRUE(parts.contains(part.suffix)) << part.suffix;
      EXPECT_EQ(parts.at(part.suffix).sizes(), torch::IntArrayRef(part.shape)) << part.suffix;
      EXPECT_EQ(parts.at(part.suffix).scalar_type(), part.dtype) << part.suffix;
    }
    EXPECT_EQ(form_of(parts, "m").kind, form.kind);
  }
}

TEST(StoredWeight, AStackOfExpertsIsReadAsItIsEncoded) {
  torch::manual_seed(5);
  const std::vector<std::int64_t> shape{3, 10, 24};
  const Tensor stack = torch::randn(shape);
  for (const QuantScheme form : {QuantScheme{}, QuantScheme{.kind = QuantScheme::Kind::kInt8}}) {
    const StoredParts parts = encode(form, stack);
    for (const PartLayout& part : layout_of(form, shape))
      EXPECT_EQ(parts.at(part.suffix).sizes(), torch::IntArrayRef(part.shape)) << part.suffix;
    const auto weight = stored_weight(parts, shape, {.method = StoredFormat::Method::kBitsandbytes}, "m");
    const Tensor values = weight->dequantize(torch::kFloat);
    EXPECT_LT((values - stack).norm().item<double>(), 0.2 * stack.norm().item<double>());
    EXPECT_TRUE(torch::equal(weight->select(2)->dequantize(torch::kFloat), values[2]));
  }
}

TEST(StoredWeight, ATruncatedOrBrokenQuantStateIsRefused) {
  StoredParts parts = nf4();
  const std::string text = text_of(parts.at(kState));
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, text.find("shape"), text.find('}')}) {
    parts[kState] = bytes_of(text.substr(0, size));
    EXPECT_TRUE(says(refusal(parts), "file: matrix 'm'.quant_state")) << size;
  }
  parts[kState] = parts.at(kState).to(torch::kFloat);
  EXPECT_TRUE(says(refusal(parts), "'" + kState + "' is of type Float"));
  parts.erase(kState);
  EXPECT_TRUE(says(refusal(parts), "without 'weight.quant_state"));
}

TEST(StoredWeight, AQuantStateThatContradictsTheRestIsRefused) {
  const auto with = [](const std::string& from, const std::string& to) {
    StoredParts parts = nf4();
    parts[kState] = edited_state(parts, from, to);
    return refusal(parts);
  };
  EXPECT_TRUE(says(with("\"nf4\"", "\"fp4\""), "stored as '" + kState + "', but its quant_type is 'fp4'"));
  EXPECT_TRUE(says(with("[6,160]", "[160,6]"), "quant_state says shape [160, 6], config.json makes it [6, 160]"));
  EXPECT_TRUE(says(with("[6,160]", "[6,16]"), "quant_state says shape [6, 16]"));
  EXPECT_TRUE(says(with("\"blocksize\":64", "\"blocksize\":128"), "absmax has 15 elements, a matrix of its shape"));
  EXPECT_TRUE(says(with("\"nested_blocksize\":256", "\"nested_blocksize\":8"), "nested_absmax has 1 elements"));
  // A state without nesting beside scales that are codes.
  EXPECT_TRUE(says(with("\"nested_blocksize\"", "\"other_blocksize\""), "'weight.absmax' is of type Byte"));
}

TEST(StoredWeight, ScalesOfAnotherLengthAreRefused) {
  const auto cut = [](StoredParts parts, const std::string& part) {
    parts[part] = parts.at(part).slice(0, 1);
    return refusal(parts);
  };
  EXPECT_TRUE(says(cut(nf4(), "weight.absmax"), "absmax has 14 elements"));
  EXPECT_TRUE(says(cut(nf4(false), "weight.absmax"), "absmax has 14 elements"));
  EXPECT_TRUE(says(cut(nf4(), "weight.nested_absmax"), "nested_absmax has 0 elements"));
  EXPECT_TRUE(says(cut(nf4(), "weight.nested_quant_map"), "nested_quant_map has 255 elements"));
  EXPECT_TRUE(says(cut(int8(), "SCB"), "the scales have shape [5, 1]"));
}

TEST(StoredWeight, CodesForAnotherShapeAreRefused) {
  const auto cut = [](StoredParts parts) {
    parts["weight"] = parts.at("weight").slice(0, 1);
    return refusal(parts);
  };
  EXPECT_TRUE(says(cut(nf4()), "the packed weight has 479 elements"));
  EXPECT_TRUE(says(cut(int8()), "the codes have shape [5, 160]"));
}

TEST(StoredWeight, AMissingPartIsNamed) {
  for (const char* part : {"weight.absmax", "weight.nested_absmax", "weight.nested_quant_map"}) {
    StoredParts parts = nf4();
    parts.erase(part);
    EXPECT_TRUE(says(refusal(parts), "has no '" + std::string(part) + "'"));
  }
  StoredParts parts = int8();
  parts.erase("SCB");
  EXPECT_TRUE(says(refusal(parts), "has no 'SCB'"));
}

TEST(StoredWeight, AQuantMapThatIsNotTheTypesIsRefused) {
  StoredParts parts = nf4();
  parts["weight.quant_map"] = four_bit_table(FourBitType::kFp4);
  EXPECT_TRUE(says(refusal(parts), "quant_map"));
}

// pack-quantized int4 in groups of 32: eight codes in a word, offset by 8.
StoredParts packed_int4() {
  StoredParts parts{{"weight_packed", at::randint(-1000, 1000, {6, 20}, at::kInt)},
                    {"weight_scale", at::rand({6, 5}, at::kFloat)},
                    {"weight_shape", at::tensor({6, 160}, at::kLong)}};
  return parts;
}

TEST(StoredWeight, CompressedTensorsThatDoNotFitAreRefused) {
  const StoredFormat format{.method = StoredFormat::Method::kCompressedTensors, .num_bits = 4};
  EXPECT_EQ(refusal(packed_int4(), format), "");
  const auto with = [&](const std::string& part, const Tensor& tensor) {
    StoredParts parts = packed_int4();
    parts[part] = tensor;
    return refusal(parts, format);
  };
  EXPECT_TRUE(says(with("weight_shape", at::tensor({160, 6}, at::kLong)), "weight_shape says [160, 6]"));
  EXPECT_TRUE(says(with("weight_packed", at::zeros({6, 19}, at::kInt)), "the codes have shape"));
  EXPECT_TRUE(says(with("weight_packed", at::zeros({6, 20}, at::kByte)), "'weight_packed' is of type Byte"));
  EXPECT_TRUE(says(with("weight_scale", at::rand({6, 7})), "the scales have shape"));
  EXPECT_TRUE(says(with("weight_scale", at::full({6, 5}, NAN)), "a scale is NaN or Inf"));
  EXPECT_TRUE(says(with("weight_zero_point", at::zeros({6, 5}, at::kInt)), "zero point"));
  StoredParts parts = packed_int4();
  parts.erase("weight_scale");
  EXPECT_TRUE(says(refusal(parts, format), "has no 'weight_scale'"));
}

}  // namespace
}  // namespace bezel::quant
