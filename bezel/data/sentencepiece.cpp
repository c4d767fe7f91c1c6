#include "bezel/data/sentencepiece.h"

#include <cmath>
#include <cstring>

#include "bezel/data/utf8.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::size_t kMaxWordBytes = 1024;

// How the bytes of a protocol buffer's field are laid out.
enum class Wire : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  std::uint64_t number = 0;
  Wire wire = Wire::kVarint;
  std::uint64_t whole = 0;  // of kVarint
  std::string_view bytes;   // of all others
};

/// Reads the fields of one message, front to back.
class Message {
 public:
  Message(std::string_view bytes, std::string_view source) : left_(bytes), source_(source) {}

  bool next(Field& field) {
    if (left_.empty()) return false;
    const std::uint64_t tag = varint();
    field = {.number = tag >> 3, .wire = static_cast<Wire>(tag & 7), .whole = 0, .bytes = {}};
    switch (field.wire) {
      case Wire::kVarint:
        field.whole = varint();
        return true;
      case Wire::kFixed64:
        field.bytes = take(8);
        return true;
      case Wire::kBytes:
        field.bytes = take(varint());
        return true;
      case Wire::kFixed32:
        field.bytes = take(4);
        return true;
    }
    fail("a field of a kind that no SentencePiece model has");
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw Error(source_, ": not a SentencePiece model, or a damaged one: ", what);
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of more than 64 bits");
  }

  std::string_view take(std::uint64_t count) {
    if (count > left_.size()) fail("a field goes past the end (incomplete download?)");
    const std::string_view taken = left_.substr(0, static_cast<std::size_t>(count));
    left_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view left_;
  std::string_view source_;
};

SentencePiece read_piece(std::string_view bytes, std::string_view source, std::size_t id) {
  const auto fail = [&](std::string_view what) { throw Error(source, ": word ", id, " ", what); };
  Message message(bytes, source);
  SentencePiece piece;
  for (Field field; message.next(field);) {
    if (field.number == 1 && field.wire == Wire::kBytes) {
      piece.text = std::string(field.bytes);
    } else if (field.number == 2 && field.wire == Wire::kFixed32) {
      std::memcpy(&piece.score, field.bytes.data(), sizeof piece.score);
    } else if (field.number == 3 && field.wire == Wire::kVarint) {
      if (field.whole < 1 || field.whole > 6) fail("has a type that is not known");
      piece.type = static_cast<SentencePiece::Type>(field.whole);
    }
  }
  if (piece.text.size() > kMaxWordBytes || find_invalid_utf8(piece.text) != std::string_view::npos)
    fail("is longer than 1,024 bytes or no UTF-8");
  if (!std::isfinite(piece.score)) fail("has a score that is NaN or Inf");
  return piece;
}

}  // namespace

std::vector<SentencePiece> parse_sentencepiece(std::string_view bytes, std::string_view source) {
  Message message(bytes, source);
  std::vector<SentencePiece> pieces;
  for (Field field; message.next(field);)
    if (field.number == 1 && field.wire == Wire::kBytes)
      pieces.push_back(read_piece(field.bytes, source, pieces.size()));
  if (pieces.empty()) message.fail("it has no words");
  return pieces;
}

}  // namespace bezel::data
