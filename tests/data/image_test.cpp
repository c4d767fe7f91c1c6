#include "bezel/data/image.h"

#include <gtest/gtest.h>

#include "bezel/error.h"
#include "support/media_files.h"

namespace bezel::data {
namespace {

torch::Tensor counting_image(std::int64_t height, std::int64_t width) {
  return torch::arange(3 * height * width, torch::kInt64).remainder(251).to(torch::kUInt8).view({3, height, width});
}

TEST(Image, PatchesHoldRowColumnChannelInOrder) {
  const auto image = counting_image(48, 96);
  const Media out = make_patches(image, ImageSettings{});
  ASSERT_EQ(out.features.sizes(), (std::vector<std::int64_t>{18, 768}));
  EXPECT_EQ(out.num_soft_tokens, 2);
  for (std::int64_t p = 0; p < 18; ++p) {
    const std::int64_t x = p % 6, y = p / 6;
    EXPECT_EQ(out.layout[p][0].item<std::int64_t>(), x);
    EXPECT_EQ(out.layout[p][1].item<std::int64_t>(), y);
    EXPECT_EQ(out.soft_index[p].item<std::int64_t>(), x / 3);
    for (std::int64_t i = 0; i < 768; i += 37) {
      const std::int64_t row = i / 48, column = i / 3 % 16, channel = i % 3;
      const auto byte = image[channel][16 * y + row][16 * x + column].item<std::uint8_t>();
      EXPECT_FLOAT_EQ(out.features[p][i].item<float>(), static_cast<float>(byte) / 255);
    }
  }
}

TEST(Image, ResizeLeavesAFittingImageAlone) {
  const auto image = counting_image(4 * 48, 70 * 48);
  EXPECT_TRUE(resize_image(image, ImageSettings{}).is_same(image));
}

TEST(Image, ResizeKeepsAFlatColorAndTheBudget) {
  const auto out = resize_image(torch::full({3, 31, 500}, 93, torch::kUInt8), ImageSettings{.max_soft_tokens = 70});
  EXPECT_EQ(out.scalar_type(), torch::kUInt8);
  EXPECT_TRUE(out.eq(93).all().item<bool>());
  EXPECT_LE(out.size(1) * out.size(2), 70 * 48 * 48);
}

TEST(Image, DecodedPixelsOutliveTheDecoder) {
  const test::PngParts parts{.width = 2, .rows = std::string("\0\x01\x02\x03\x04\x05\x06", 7)};
  const std::string file = test::make_png(parts);
  const auto image = decode_image(test::as_bytes(file), "image");
  EXPECT_TRUE(image.equal(torch::tensor({1, 4, 2, 5, 3, 6}, torch::kUInt8).view({3, 1, 2})));
}

TEST(Image, MissingFileIsAnIoError) {
  try {
    load_image(std::string("/nonexistent/image.png"), ImageSettings{});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
  }
}

}  // namespace
}  // namespace bezel::data
