#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <torch/types.h>

#include "bezel/data/batch.h"
#include "bezel/data/image_decode.h"
#include "bezel/data/processor_config.h"

namespace bezel::data {

/// Decodes an image file (see decode_rgb) to uint8 [3, H, W], upright RGB.
torch::Tensor decode_image(std::span<const std::byte> bytes, std::string_view source);

/// Resizes uint8 `image` [3, H, W] with antialiased bicubic interpolation, as torchvision does, to the size that
/// resized_image_size names; returned as it is when it has that size.
torch::Tensor resize_image(const torch::Tensor& image, const ImageSettings& settings);

/// Cuts uint8 `image` [3, h, w], with sides that are multiples of patch_size * pooling, into patches, each averaged
/// into the soft token of its window.
Media make_patches(const torch::Tensor& image, const ImageSettings& settings);

/// Resizes and cuts a frame of a video. Its features stay bytes, which are divided by 255 when they are encoded: a
/// video is 32 of them, and its values are x / 255 where an image's are x * (1 / 255).
Media make_frame(RgbImage frame, const ImageSettings& settings);

/// Decodes, resizes and cuts an image held in memory.
Media load_image(std::span<const std::byte> bytes, std::string_view source, const ImageSettings& settings);

/// The same for a file; throws Error (kIo) when it cannot be read.
Media load_image(const std::string& path, const ImageSettings& settings);

/// Size after EXIF orientation of the image in a file, which is read but not decoded.
input::ImageSize probe_image_file(const std::string& path);

}  // namespace bezel::data
