#include "bezel/io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include "bezel/error.h"
#include "bezel/io/placeholder_file.h"

namespace bezel::io {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian");

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint64_t kMaxKeyBytes = 65535;  // as the format says
constexpr std::uint32_t kMaxDims = 4;          // GGML_MAX_DIMS
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxBytes = std::numeric_limits<std::int64_t>::max();
// The least that a key with its value, and a tensor of one dimension, take: no larger count can be true.
constexpr std::uint64_t kLeastKeyBytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

std::uint64_t aligned(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

/// Names are shown in messages of one line: no control characters.
bool is_plain(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return static_cast<unsigned char>(c) >= ' ' && static_cast<unsigned char>(c) != 0x7f;
  });
}

}  // namespace

/// Reads a file from front to back, never past its end.
class GgufReader {
 public:
  explicit GgufReader(GgufFile& file) : file_(file), data_(file.map_->data()), size_(file.map_->size_bytes()) {}

  void read() {
    read_start();
    for (std::uint64_t i = 0; i < num_keys_; ++i) read_key();
    for (std::uint64_t i = 0; i < num_tensors_; ++i) read_tensor();
    place_tensors();
  }

 private:
  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw Error(file_.path(), ": ", parts...);
  }

  std::size_t left() const { return size_ - at_; }

  const std::byte* take(std::uint64_t bytes, const std::string& what) {
    if (bytes > left())
      fail(what, " needs ", bytes, " bytes at byte ", at_, ", the file has ", left(), " left (incomplete download?)");
    const std::byte* taken = data_ + at_;
    at_ += static_cast<std::size_t>(bytes);
    return taken;
  }

  template <typename T>
  T number(const std::string& what) {
    T value;
    std::memcpy(&value, take(sizeof value, what), sizeof value);
    return value;
  }

  // " (repository)" where the metadata names the model that this one was quantized from.
  std::string base_named() const {
    for (const char* key : {"general.base_model.0.repo_url", "general.source.repo_url", "general.base_model.0.name"})
      if (const GgufValue* value = file_.get(key); value != nullptr && value->is_text())
        return " (" + value->text() + ")";
    return "";
  }

  std::string name(const std::string& what) {
    const auto length = number<std::uint64_t>(what);
    if (length > kMaxKeyBytes)
      fail(what, " claims a name of ", length, " bytes, at most ", kMaxKeyBytes, " are allowed");
    std::string text(reinterpret_cast<const char*>(take(length, what)), static_cast<std::size_t>(length));
    if (!is_plain(text)) fail(what, " has an empty name or one with control characters");
    return text;
  }

  void read_start();
  void read_key();
  const std::byte* take_values(GgufKind kind, std::uint64_t count, const std::string& what);
  GgufKind read_kind(const std::string& what);
  void read_tensor();
  std::size_t tensor_bytes(const GgufTensor& tensor) const;
  void place_tensors();

  GgufFile& file_;
  const std::byte* data_;
  std::size_t size_;
  std::size_t at_ = 0;
  std::uint64_t num_tensors_ = 0;
  std::uint64_t num_keys_ = 0;
};

void GgufReader::read_start() {
  refuse_placeholder(file_.path(), {reinterpret_cast<const char*>(data_), std::min<std::size_t>(size_, 256)});
  if (size_ < kMagic.size() || std::memcmp(data_, kMagic.data(), kMagic.size()) != 0)
    fail("not a GGUF file: it does not begin with 'GGUF'");
  at_ = kMagic.size();
  const auto version = number<std::uint32_t>("the version");
  if (version != 0 && (version & 0xffffu) == 0)
    fail("a big-endian GGUF file; only little-endian ones are read: convert it with gguf-convert-endian");
  if (version != 2 && version != 3) fail("GGUF version ", version, ", expected 2 or 3; convert the model anew");
  num_tensors_ = number<std::uint64_t>("the number of tensors");
  num_keys_ = number<std::uint64_t>("the number of keys");
  if (num_keys_ > left() / kLeastKeyBytes) fail("claims ", num_keys_, " keys, which ", size_, " bytes cannot hold");
  if (num_tensors_ > left() / kLeastTensorBytes)
    fail("claims ", num_tensors_, " tensors, which ", size_, " bytes cannot hold");
}

GgufKind GgufReader::read_kind(const std::string& what) {
  const auto kind = number<std::uint32_t>(what);
  if (kind > static_cast<std::uint32_t>(GgufKind::kF64)) fail(what, " has type ", kind, ", expected 0 to 12");
  return static_cast<GgufKind>(kind);
}

/// Goes past `count` values; returns where they begin.
const std::byte* GgufReader::take_values(GgufKind kind, std::uint64_t count, const std::string& what) {
  const std::byte* begin = data_ + at_;
  if (const std::size_t bytes = gguf_kind_bytes(kind); bytes > 0) {
    if (count > left() / bytes)
      fail(what, " claims ", count, " elements, the file has ", left(), " bytes left (incomplete download?)");
    take(count * bytes, what);
    return begin;
  }
  for (std::uint64_t i = 0; i < count; ++i) take(number<std::uint64_t>(what), what);
  return begin;
}

void GgufReader::read_key() {
  std::string key = name("key " + std::to_string(file_.metadata_.size()));
  const std::string what = "key '" + key + "'";
  GgufKind kind = read_kind(what);
  std::uint64_t count = GgufValue::kNoArray;
  if (kind == GgufKind::kArray) {
    kind = read_kind(what);
    if (kind == GgufKind::kArray) fail(what, " is a list of lists, which no key of a model is");
    count = number<std::uint64_t>(what);
    if (count == GgufValue::kNoArray) fail(what, " claims ", count, " elements");
  }
  const std::byte* begin = take_values(kind, count == GgufValue::kNoArray ? 1 : count, what);
  GgufValue value(file_.path(), key, kind, begin, count);
  if (!file_.metadata_.emplace(std::move(key), std::move(value)).second) fail(what, " comes twice");
}

void GgufReader::read_tensor() {
  GgufTensor tensor;
  tensor.name = name("tensor " + std::to_string(file_.tensors_.size()));
  const std::string what = "tensor '" + tensor.name + "'";
  const auto num_dims = number<std::uint32_t>(what);
  if (num_dims == 0 || num_dims > kMaxDims) fail(what, " has ", num_dims, " dimensions, expected 1 to ", kMaxDims);
  for (std::uint32_t i = 0; i < num_dims; ++i) {
    const auto dim = number<std::uint64_t>(what);
    if (dim == 0 || dim > kMaxBytes) fail(what, " has a dimension of ", dim, ", expected 1 to 2^63 - 1");
    tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(dim));
  }
  const auto number_of_type = number<std::uint32_t>(what);
  const auto type = gguf_type(number_of_type);
  if (!type) {
    const std::string_view known = gguf_type_name(number_of_type);
    fail(what, " is stored as ", known.empty() ? "an unknown type" : known, " (", number_of_type,
         "), which is not read; expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS or "
         "MXFP4: take ",
         "the model as Q4_K_M, Q5_K_M, Q6_K or Q8_0, or the checkpoint that it was made from", base_named());
  }
  tensor.type = *type;
  tensor.begin_bytes = static_cast<std::size_t>(number<std::uint64_t>(what));  // from the start of the data, for now
  tensor.size_bytes = tensor_bytes(tensor);
  file_.tensors_.push_back(std::move(tensor));
}

std::size_t GgufReader::tensor_bytes(const GgufTensor& tensor) const {
  const GgufTypeInfo& info = gguf_type_info(tensor.type);
  const std::int64_t columns = tensor.shape.back();
  if (columns % info.block_elements != 0)
    fail("tensor '", tensor.name, "' has rows of ", columns, " values, ", info.name, " needs a multiple of ",
         info.block_elements);
  std::uint64_t bytes = static_cast<std::uint64_t>(info.block_bytes);
  const auto times = [&](std::int64_t factor) {
    if (static_cast<std::uint64_t>(factor) > kMaxBytes / bytes)
      fail("tensor '", tensor.name, "': its size does not fit 63 bits");
    bytes *= static_cast<std::uint64_t>(factor);
  };
  times(columns / info.block_elements);
  for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) times(tensor.shape[i]);
  return static_cast<std::size_t>(bytes);
}

void GgufReader::place_tensors() {
  std::uint64_t alignment = kDefaultAlignment;
  if (const GgufValue* value = file_.get("general.alignment")) {
    alignment = static_cast<std::uint64_t>(value->whole(1, std::numeric_limits<std::uint32_t>::max()));
    if (!std::has_single_bit(alignment)) value->fail("a power of two");
  }
  const std::uint64_t begin = aligned(at_, alignment);
  if (begin > size_ && num_tensors_ > 0)
    fail("ends before its data begins, at byte ", begin, " (incomplete download?)");
  std::ranges::stable_sort(file_.tensors_, {}, &GgufTensor::begin_bytes);
  std::uint64_t next = begin;
  for (GgufTensor& tensor : file_.tensors_) {
    const std::string what = "tensor '" + tensor.name + "'";
    const std::uint64_t offset = tensor.begin_bytes;
    if (offset % alignment != 0)
      fail(what, " begins at byte ", offset, " of the data, not at a multiple of ", alignment,
           ", the file's alignment");
    if (offset > size_ - begin || tensor.size_bytes > size_ - begin - offset)
      fail(what, " needs ", tensor.size_bytes, " bytes at byte ", offset, " of the data, the file has ", size_ - begin,
           " bytes of data (incomplete download?)");
    if (begin + offset != next)
      fail(what, " begins at byte ", offset, " of the data, ",
           begin + offset < next ? "inside the tensor before it" : "after a hole", "; expected ", next - begin);
    tensor.begin_bytes = static_cast<std::size_t>(begin + offset);
    next = begin + aligned(offset + tensor.size_bytes, alignment);
    if (!file_.by_name_.emplace(tensor.name, &tensor).second) fail(what, " comes twice");
  }
  if (size_ > next) fail(size_ - next, " bytes at the end belong to no tensor");
}

std::shared_ptr<const GgufFile> GgufFile::open(const std::string& path) {
  std::shared_ptr<GgufFile> file(new GgufFile(MappedFile::open(path)));
  GgufReader(*file).read();
  return file;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

const GgufValue* GgufFile::get(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufValue& GgufFile::at(std::string_view key) const {
  const GgufValue* value = get(key);
  if (value == nullptr) throw Error(path(), ": key '", key, "' is missing");
  return *value;
}

}  // namespace bezel::io
