#include "bezel/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/placeholder_file.h"
#include "bezel/io/torn_map.h"

namespace bezel::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr std::size_t kPrefixBytes = 8;
constexpr std::size_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kLookedAtBytes = 256;  // to recognize what is not a safetensors file
constexpr std::size_t kMaxSafetensorsDims = 64;
constexpr std::string_view kMetadataKey = "__metadata__";

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array<DTypeRow, 13> kDTypes{{{DType::kBool, "BOOL", 1},
                                            {DType::kU8, "U8", 1},
                                            {DType::kI8, "I8", 1},
                                            {DType::kU16, "U16", 2},
                                            {DType::kI16, "I16", 2},
                                            {DType::kF16, "F16", 2},
                                            {DType::kBF16, "BF16", 2},
                                            {DType::kU32, "U32", 4},
                                            {DType::kI32, "I32", 4},
                                            {DType::kF32, "F32", 4},
                                            {DType::kU64, "U64", 8},
                                            {DType::kI64, "I64", 8},
                                            {DType::kF64, "F64", 8}}};

const DTypeRow& row_of(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

/// Bytes of a tensor, or nothing when its size overflows. Zero dimensions do not hide the overflow of the others:
/// code that multiplies in another order would trip over it.
std::optional<std::size_t> tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape) {
  std::uint64_t left = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / dtype_bytes(dtype);
  std::uint64_t count = 1;
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      empty = true;
      continue;
    }
    const auto factor = static_cast<std::uint64_t>(dim);
    if (factor > left) return std::nullopt;
    left /= factor;
    count *= factor;
  }
  return empty ? 0 : static_cast<std::size_t>(count) * dtype_bytes(dtype);
}

DType parse_dtype(const JsonView& view) {
  const std::string name = view.text();
  for (const DTypeRow& row : kDTypes)
    if (row.name == name) return row.dtype;
  if (name.starts_with("F8_") || name.starts_with("F4") || name.starts_with("F6_"))
    view.fail(
        "a type of 16 or 32 bits, or integer codes: FP8, FP6 and FP4 are not read; take the checkpoint in "
        "bfloat16 that it was made from");
  view.fail("one of BOOL, U8, I8, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64");
}

TensorInfo parse_tensor(const std::string& name, const JsonView& view) {
  TensorInfo tensor;
  tensor.name = name;
  for (const auto& [key, value] : view.members())
    if (key != "dtype" && key != "shape" && key != "data_offsets") value.fail("only dtype, shape and data_offsets");
  tensor.dtype = parse_dtype(view.at("dtype"));
  const JsonView shape = view.at("shape");
  for (const JsonView& dim : shape.elements()) tensor.shape.push_back(dim.whole());
  if (tensor.shape.size() > kMaxSafetensorsDims) shape.fail("at most 64 dimensions");
  const JsonView offsets = view.at("data_offsets");
  const auto ends = offsets.elements();
  if (ends.size() != 2) offsets.fail("two offsets");
  tensor.begin_bytes = static_cast<std::size_t>(ends[0].whole());
  tensor.end_bytes = static_cast<std::size_t>(ends[1].whole());
  if (tensor.end_bytes < tensor.begin_bytes) offsets.fail("an end that is not before the begin");
  const auto wanted_bytes = tensor_bytes(tensor.dtype, tensor.shape);
  if (!wanted_bytes) shape.fail("a size that fits 63 bits");
  if (tensor.end_bytes - tensor.begin_bytes != *wanted_bytes)
    offsets.fail(std::to_string(*wanted_bytes) + " bytes, which dtype and shape need");
  return tensor;
}

std::string quoted(std::string_view path, const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw Error(path, ": cannot be written: '", text, "' is not valid UTF-8");
  }
}

std::vector<const TensorSpec*> in_file_order(const std::string& path, std::span<const TensorSpec> tensors) {
  std::vector<const TensorSpec*> order;
  std::unordered_set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name == kMetadataKey || !names.insert(tensor.name).second)
      throw Error(path, ": cannot be written: tensor name '", tensor.name, "' is taken");
    order.push_back(&tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const TensorSpec* a, const TensorSpec* b) {
    return dtype_bytes(a->dtype) > dtype_bytes(b->dtype);
  });
  return order;
}

std::string make_header(const std::string& path, const std::vector<const TensorSpec*>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) header += quoted(path, key) + ":" + quoted(path, value) + ",";
    header.back() = '}';
    header += ",";
  }
  std::size_t begin_bytes = 0;
  for (const TensorSpec* tensor : order) {
    const std::size_t end_bytes = begin_bytes + tensor->size_bytes();
    header += quoted(path, tensor->name) + ":{\"dtype\":\"" + std::string(dtype_name(tensor->dtype)) +
              "\",\"shape\":" + Json(tensor->shape).dump() + ",\"data_offsets\":[" + std::to_string(begin_bytes) + "," +
              std::to_string(end_bytes) + "]},";
    begin_bytes = end_bytes;
  }
  if (header.back() == ',') header.pop_back();
  header += "}";
  header.append((kPrefixBytes - header.size() % kPrefixBytes) % kPrefixBytes, ' ');
  if (header.size() > kMaxHeaderBytes) throw Error(path, ": cannot be written: its header would pass 100 MB");
  return header;
}

}  // namespace

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }

std::size_t dtype_bytes(DType dtype) { return row_of(dtype).bytes; }

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> map) : map_(std::move(map)) {}

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(MappedFile::open(path)));
  file->read_header();
  file->check_layout();
  for (const TensorInfo& tensor : file->tensors_) file->by_name_.emplace(tensor.name, &tensor);
  return file;
}

std::string_view SafetensorsFile::header() const {
  const std::size_t file_bytes = map_->size_bytes();
  refuse_placeholder(path(), {reinterpret_cast<const char*>(map_->data()), std::min(file_bytes, kLookedAtBytes)});
  if (file_bytes < kPrefixBytes)
    throw Error(path(), ": ", file_bytes, " bytes, too short for a safetensors file (incomplete download?)");
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, map_->data(), kPrefixBytes);
  if (header_bytes == 0 || header_bytes > kMaxHeaderBytes)
    throw Error(path(), ": not a safetensors file: it claims a header of ", header_bytes, " bytes, expected 1 to ",
                kMaxHeaderBytes);
  if (header_bytes > file_bytes - kPrefixBytes)
    throw Error(path(), ": the header needs ", header_bytes, " bytes, the file has ", file_bytes - kPrefixBytes,
                " after the first 8 (incomplete download?)");
  return {reinterpret_cast<const char*>(map_->data()) + kPrefixBytes, static_cast<std::size_t>(header_bytes)};
}

void SafetensorsFile::read_header() {
  const std::string_view text = header();
  if (text.front() != '{') throw Error(path(), ": not a safetensors file: its header does not start with '{'");
  data_begin_ = kPrefixBytes + text.size();
  data_bytes_ = map_->size_bytes() - data_begin_;
  const Json json = parse_json(text, path(), {.max_bytes = kMaxHeaderBytes});
  for (const auto& [name, view] : JsonView(json, path()).members()) {
    if (name != kMetadataKey) {
      tensors_.push_back(parse_tensor(name, view));
      continue;
    }
    if (view.is_null()) continue;  // as MLX writes it
    for (const auto& [key, value] : view.members()) metadata_.emplace(key, value.text());
  }
}

void SafetensorsFile::check_layout() {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.begin_bytes, a.end_bytes) < std::pair(b.begin_bytes, b.end_bytes);
  });
  std::size_t next_bytes = 0;
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.begin_bytes != next_bytes)
      throw Error(path(), ": tensor '", tensor.name, "' begins at byte ", tensor.begin_bytes,
                  tensor.begin_bytes < next_bytes ? ", inside the tensor before it" : ", after a hole", "; expected ",
                  next_bytes);
    next_bytes = tensor.end_bytes;
  }
  if (next_bytes > data_bytes_)
    throw Error(path(), ": the tensors need ", next_bytes, " bytes, the file has ", data_bytes_,
                " (incomplete download?)");
  if (next_bytes < data_bytes_)
    throw Error(path(), ": the tensors need ", next_bytes, " bytes, the file has ", data_bytes_,
                ": bytes at the end belong to no tensor");
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

const std::byte* SafetensorsFile::data(const TensorInfo& tensor) const {
  return map_->data() + data_begin_ + tensor.begin_bytes;
}

void SafetensorsFile::evict(const TensorInfo& tensor) const {
  map_->evict(data(tensor), tensor.end_bytes - tensor.begin_bytes);
}

std::size_t TensorSpec::size_bytes() const {
  const auto bytes = tensor_bytes(dtype, shape);
  if (!bytes) throw Error("tensor '", name, "' cannot be written: its size does not fit 63 bits");
  return *bytes;
}

void TensorSink::put(const std::string& name, const void* data, std::size_t size_bytes) {
  const auto place = due_.find(name);
  if (place == due_.end() || place->second.size_bytes != size_bytes)
    throw std::logic_error("no tensor '" + name + "' of " + std::to_string(size_bytes) + " bytes is due");
  file_.write_at(place->second.begin_bytes, data, size_bytes);
  due_.erase(place);
}

TensorSink::PutPiece TensorSink::put_pieces(const std::string& name) {
  const auto found = due_.find(name);
  if (found == due_.end()) throw std::logic_error("no tensor '" + name + "' is due");
  const Place place = found->second;
  due_.erase(found);
  // The file reaches to the tensor's end also where the last pieces are left out.
  if (place.size_bytes > 0) file_.write_at(place.begin_bytes + place.size_bytes - 1, "", 1);
  return [this, name, place](std::size_t offset_bytes, const void* data, std::size_t size_bytes) {
    if (offset_bytes > place.size_bytes || size_bytes > place.size_bytes - offset_bytes)
      throw std::logic_error("bytes beyond tensor '" + name + "' were put");
    file_.write_at(place.begin_bytes + offset_bytes, data, size_bytes);
  };
}

void stream_safetensors(const std::string& path, std::span<const TensorSpec> specs,
                        const std::map<std::string, std::string>& metadata,
                        const std::function<void(TensorSink&)>& fill) {
  const std::vector<const TensorSpec*> order = in_file_order(path, specs);
  const std::string header = make_header(path, order, metadata);
  const std::uint64_t header_bytes = header.size();
  write_file_atomically(path, [&](FileSink& file) {
    file.write(&header_bytes, kPrefixBytes);
    file.write(header);
    TensorSink sink(file);
    std::size_t next_bytes = kPrefixBytes + header.size();
    for (const TensorSpec* tensor : order) {
      sink.due_[tensor->name] = {next_bytes, tensor->size_bytes()};
      next_bytes += tensor->size_bytes();
    }
    fill(sink);
    if (!sink.due_.empty()) throw std::logic_error("tensor '" + sink.due_.begin()->first + "' was never put");
    throw_if_torn();  // what was computed from pages that are gone must not get a name
  });
}

void write_safetensors(const std::string& path, std::span<const TensorBytes> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  for (const TensorBytes& tensor : tensors) {
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
    const auto wanted_bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (!wanted_bytes || *wanted_bytes != tensor.size_bytes)
      throw Error(path, ": cannot be written: tensor '", tensor.name, "' has ", tensor.size_bytes,
                  " bytes, which is not what its shape and dtype need");
  }
  stream_safetensors(path, specs, metadata, [&](TensorSink& sink) {
    for (const TensorBytes& tensor : tensors) sink.put(tensor.name, tensor.data, tensor.size_bytes);
  });
}

}  // namespace bezel::io
