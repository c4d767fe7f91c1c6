#include "bezel/data/image.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{256} << 20;

/// Copied, not mapped: a file that shrinks while it is decoded must not end the process.
std::vector<std::byte> read_image_file(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw Error(ErrorKind::kIo, path, ": ", error ? error.message() : "not a regular file");
  }
  const std::uintmax_t size_bytes = std::filesystem::file_size(path, error);
  std::ifstream in(path, std::ios::binary);
  if (error || !in) throw Error(ErrorKind::kIo, path, ": cannot open");
  if (size_bytes > kMaxFileBytes) {
    throw Error(path, ": image of ", size_bytes, " bytes, at most ", kMaxFileBytes, " are read");
  }
  std::vector<std::byte> bytes(size_bytes);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size_bytes));
  if (static_cast<std::uintmax_t>(in.gcount()) != size_bytes) {
    throw Error(ErrorKind::kIo, path, ": read ", in.gcount(), " of ", size_bytes, " bytes; did the file change?");
  }
  return bytes;
}

input::ImageSize target_size(const input::ImageSize& size, const ImageSettings& settings) {
  return input::resized_image_size(size.height, size.width, settings.patch_size, settings.max_soft_tokens,
                                   settings.pooling);
}

// uint8 [3, H, W]
torch::Tensor pixels_of(RgbImage decoded) {
  auto image = std::make_shared<RgbImage>(std::move(decoded));
  const auto release = [image](void*) {};  // the tensor owns the pixels
  const auto pixels = torch::from_blob(image->pixels.data(), {image->size.height, image->size.width, 3}, release,
                                       torch::TensorOptions().dtype(torch::kUInt8));  // [H, W, 3]
  return pixels.permute({2, 0, 1});                                                   // [3, H, W]
}

// Patches as bytes.
Media cut_patches(const torch::Tensor& image, const ImageSettings& settings, MediaKind kind) {
  const std::int64_t patch = settings.patch_size, pooling = settings.pooling;
  TORCH_CHECK(image.dim() == 3 && image.size(0) == 3 && image.size(1) % (patch * pooling) == 0 &&
                  image.size(2) % (patch * pooling) == 0,
              "make_patches: expected [3, H, W] with sides that are multiples of ", patch * pooling, ", got ",
              image.sizes());
  const std::int64_t rows = image.size(1) / patch, columns = image.size(2) / patch;
  Media out{.kind = kind};
  out.features = image.reshape({3, rows, patch, columns, patch})
                     .permute({1, 3, 2, 4, 0})
                     .reshape({rows * columns, 3 * patch * patch});  // [P, 3 * patch^2]
  const auto index = torch::arange(rows * columns, torch::kInt64);
  const auto x = index.remainder(columns), y = index.floor_divide(columns);  // [P]
  out.layout = torch::stack({x, y}, 1);                                      // [P, 2]
  out.soft_index = x.floor_divide(pooling) + y.floor_divide(pooling) * (columns / pooling);
  out.num_soft_tokens = (rows / pooling) * (columns / pooling);
  return out;
}

}  // namespace

torch::Tensor decode_image(std::span<const std::byte> bytes, std::string_view source) {
  return pixels_of(decode_rgb(bytes, source));
}

torch::Tensor resize_image(const torch::Tensor& image, const ImageSettings& settings) {
  TORCH_CHECK(image.dim() == 3 && image.size(0) == 3 && image.scalar_type() == torch::kUInt8,
              "resize_image: expected uint8 [3, H, W], got ", image.scalar_type(), " ", image.sizes());
  const input::ImageSize from{image.size(1), image.size(2)};
  const input::ImageSize to = target_size(from, settings);
  if (to == from) return image;
  // The uint8 kernel, which rounds its weights and its result of each direction to whole numbers, as torchvision gets
  // it.
  const std::vector<std::int64_t> size = {to.height, to.width};
  return at::_upsample_bicubic2d_aa(image.unsqueeze(0), size, /*align_corners=*/false).squeeze(0);
}

Media make_patches(const torch::Tensor& image, const ImageSettings& settings) {
  Media out = cut_patches(image, settings, MediaKind::kImage);
  out.features = out.features.to(torch::kFloat32).mul_(settings.rescale);
  return out;
}

Media make_frame(RgbImage frame, const ImageSettings& settings) {
  const torch::NoGradGuard no_grad;
  Media out = cut_patches(resize_image(pixels_of(std::move(frame)), settings), settings, MediaKind::kVideo);
  out.features = out.features.contiguous();
  return out;
}

Media load_image(std::span<const std::byte> bytes, std::string_view source, const ImageSettings& settings) {
  const torch::NoGradGuard no_grad;
  return make_patches(resize_image(decode_image(bytes, source), settings), settings);
}

Media load_image(const std::string& path, const ImageSettings& settings) {
  return load_image(read_image_file(path), path, settings);
}

input::ImageSize probe_image_file(const std::string& path) { return probe_image_size(read_image_file(path), path); }

}  // namespace bezel::data
