// The strict JSON reader and its views: what was read is written and read back to the same.
#include "bezel/io/json.h"

#include "fuzz/target.h"

namespace {

using namespace bezel;

/// Asks every value for every type that it may or may not be.
void ask(const io::JsonView& view) {
  const auto whole = fuzz::accepted([&] { return view.whole(); });
  const auto number = fuzz::accepted([&] { return view.number(); });
  fuzz::require(number ? view.is_number() : !whole && !view.is_number());
  fuzz::require(!whole || *whole >= 0);
  fuzz::require(fuzz::accepted([&] { return view.boolean(); }).has_value() == view.value().is_boolean());
  fuzz::require(fuzz::accepted([&] { return view.text(); }).has_value() == view.is_string());
  fuzz::require(fuzz::accepted([&] { return view.find("a"); }).has_value() == view.is_object());
  if (view.is_array())
    for (const io::JsonView& element : view.elements()) ask(element);
  if (view.is_object())
    for (const auto& [name, member] : view.members()) {
      fuzz::require(view.at(name).value() == member.value());
      ask(member);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = fuzz::accepted([&] { return io::parse_json(fuzz::as_text(data, size), "input"); });
  if (!json) return 0;
  fuzz::require(io::parse_json(json->dump(), "again") == *json);
  ask(io::JsonView(*json, "input"));
  return 0;
}
