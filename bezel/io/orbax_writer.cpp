#include "bezel/io/orbax_writer.h"

#include <chrono>

#include "bezel/io/atomic_write.h"
#include "bezel/io/zstd_encoder.h"

namespace bezel::io {
namespace {

constexpr int kDictionaryKey = 2;  // of a name's segment, in Orbax's list of kinds of keys
constexpr const char* kHandler = "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler";

Json zarr_json(DType dtype, const std::vector<std::int64_t>& shape) {
  return {{"chunks", shape},
          {"compressor", {{"id", "zstd"}, {"level", 1}}},
          {"dimension_separator", "."},
          {"dtype", dtype == DType::kBF16 ? "bfloat16" : "<f4"},
          {"fill_value", nullptr},
          {"filters", nullptr},
          {"order", "C"},
          {"shape", shape},
          {"zarr_format", 2}};
}

/// The key of an array's only chunk: "0.0.0".
std::string only_chunk(std::size_t num_dims) {
  std::string key = "0";
  for (std::size_t i = 1; i < num_dims; ++i) key += ".0";
  return key;
}

/// A path as Python writes a tuple of texts.
std::string tuple_text(const std::vector<std::string>& path) {
  std::string text;
  for (const std::string& segment : path) text += (text.empty() ? "'" : ", '") + segment + "'";
  return "(" + text + (path.size() == 1 ? ",)" : ")");
}

std::int64_t now_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace

OrbaxWriter::OrbaxWriter(const std::string& folder) : folder_(folder), store_(folder) {}

void OrbaxWriter::put(const ZarrName& name, DType dtype, const std::vector<std::int64_t>& shape,
                      const std::function<void(const Put&)>& fill) {
  const TensorSpec spec{name.text(), dtype, shape};
  store_.put(spec.name + "/.zarray", zarr_json(dtype, shape).dump());
  store_.put(spec.name + "/" + only_chunk(shape.size()), spec.size_bytes(), [&](const OcdbtWriter::Append& append) {
    ZstdEncoder encoder(spec.size_bytes(), append);
    fill([&encoder](std::span<const std::byte> bytes) { encoder.put(bytes); });
    encoder.finish();
  });
  Json keys = Json::array();
  for (const std::string& segment : name.path) keys.push_back({{"key", segment}, {"key_type", kDictionaryKey}});
  tree_[tuple_text(name.path)] = {
      {"key_metadata", keys},
      {"value_metadata", {{"value_type", "jax.Array"}, {"skip_deserialize", false}, {"write_shape", shape}}}};
}

void OrbaxWriter::finish() {
  store_.finish();
  const Json metadata = {{"tree_metadata", tree_},
                         {"use_ocdbt", true},
                         {"use_zarr3", false},
                         {"store_array_data_equal_to_fill_value", true},
                         {"custom_metadata", nullptr}};
  const std::int64_t time_ns = now_ns();
  const Json checkpoint = {
      {"item_handlers", kHandler},       {"metrics", Json::object()},         {"performance_metrics", Json::object()},
      {"init_timestamp_nsecs", time_ns}, {"commit_timestamp_nsecs", time_ns}, {"custom_metadata", Json::object()}};
  write_file_atomically(folder_ + "/_METADATA", metadata.dump());
  write_file_atomically(folder_ + "/_CHECKPOINT_METADATA", checkpoint.dump());
}

}  // namespace bezel::io
