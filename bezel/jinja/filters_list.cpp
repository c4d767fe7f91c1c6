// Filters of lists and other iterables.
#include <algorithm>

#include "bezel/error.h"
#include "bezel/jinja/arguments.h"
#include "bezel/jinja/compare.h"
#include "bezel/jinja/filters.h"
#include "bezel/jinja/text_pieces.h"

namespace bezel::jinja {
namespace {

Value length_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("length", std::move(arguments), {}, 0);
  if (value.is_string()) runtime.spend_text(value.bytes().size());
  return Value::integer(static_cast<std::int64_t>(length_of(value)));
}

Value list_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("list", std::move(arguments), {}, 0);
  return Value::list(list_of(runtime, value));
}

Value first_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("first", std::move(arguments), {}, 0);
  const auto next = iterate(runtime, value);
  return next().value_or(Value::undefined("there is no first element: the sequence is empty"));
}

Value last_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("last", std::move(arguments), {}, 0);
  if (value.is(Kind::kIterator)) throw Error("last needs a list, got an iterator: write ... | list | last");
  const std::vector<Value> items = list_of(runtime, value);
  return items.empty() ? Value::undefined("there is no last element: the sequence is empty") : items.back();
}

Value join_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("join", std::move(arguments), {"d", "attribute"}, 0);
  const TracedText separator = bound.has(0) ? runtime.text_of(bound[0]) : TracedText();
  const auto pick = attribute_getter(runtime, bound.get(1, Value::none()), Value::none());
  TracedText out;
  bool first = true;
  const auto next = iterate(runtime, value);
  while (const std::optional<Value> item = next()) {
    if (!first) out.append(separator);
    first = false;
    out.append(runtime.text_of(pick(*item)));
    runtime.spend_text(separator.size());
    runtime.check_text(out.size());
  }
  return runtime.string(std::move(out));
}

Value items_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("items", std::move(arguments), {}, 0);
  if (value.is_undefined()) return generator([] { return std::nullopt; }, 0);
  if (!value.is(Kind::kDict)) throw Error("items needs a dict, got a ", type_name(value));
  auto view = std::make_shared<ViewObject>();
  view->part = ViewObject::Part::kItems;
  view->dict = value;
  return generator(iterate(runtime, Value::of(Kind::kView, std::move(view))), 0);
}

Value reverse_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("reverse", std::move(arguments), {}, 0);
  std::vector<Value> items = list_of(runtime, value);
  std::reverse(items.begin(), items.end());
  if (value.is(Kind::kIterator)) return Value::list(std::move(items));
  if (!value.is_string()) return generator(iterate(runtime, Value::list(std::move(items))), 0);
  TracedText out;
  for (const Value& item : items) out.append(item.text());
  return runtime.string(std::move(out), value.is_markup());
}

// Sorts by key, stably; `reverse` keeps the order of equal ones, too.
std::vector<Value> sorted(Runtime& runtime, const std::vector<Value>& items,
                          const std::function<Value(const Value&)>& key, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) keyed.emplace_back(key(item), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    runtime.spend(std::min(a.first.weight(), b.first.weight()));
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  std::vector<Value> out;
  for (auto& [rank, item] : keyed) out.push_back(std::move(item));
  return out;
}

std::function<Value(const Value&)> key_of(Runtime& runtime, const Value& attribute, bool case_sensitive) {
  return [pick = attribute_getter(runtime, attribute, Value::none()), case_sensitive](const Value& item) {
    return case_sensitive ? pick(item) : without_case(pick(item));
  };
}

Value sort_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("sort", std::move(arguments), {"reverse", "case_sensitive", "attribute"}, 0);
  const Value attribute = bound.get(2, Value::none());
  std::vector<std::function<Value(const Value&)>> keys;
  if (attribute.is_string()) {
    for (TracedText& part : split_text(attribute.text(), ",", -1))
      keys.push_back(key_of(runtime, Value::string(std::move(part)), bound.flag(1)));
  } else {
    keys.push_back(key_of(runtime, attribute, bound.flag(1)));
  }
  const auto key = [&](const Value& item) {
    std::vector<Value> ranks;
    for (const auto& pick : keys) ranks.push_back(pick(item));
    return Value::list(std::move(ranks));
  };
  return Value::list(sorted(runtime, list_of(runtime, value), key, bound.flag(0)));
}

Value dictsort_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("dictsort", std::move(arguments), {"case_sensitive", "by", "reverse"}, 0);
  const std::string by = bound.has(1) ? bound.text(1).bytes() : "key";
  if (by != "key" && by != "value") throw Error("dictsort sorts by 'key' or 'value', got '", by, "'");
  if (value.is_undefined()) throw Error(value.bytes());
  if (!value.is(Kind::kDict)) throw Error("dictsort needs a dict, got a ", type_name(value));
  std::vector<Value> items;
  for (const auto& [name, member] : value.as<DictObject>().items()) items.push_back(Value::tuple({name, member}));
  const auto key = key_of(runtime, Value::integer(by == "key" ? 0 : 1), bound.flag(0));
  return Value::list(sorted(runtime, items, key, bound.flag(2)));
}

Value unique_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("unique", std::move(arguments), {"case_sensitive", "attribute"}, 0);
  const auto key = key_of(runtime, bound.get(1, Value::none()), bound.flag(0));
  std::vector<Value> out;
  DictObject seen;
  for (const Value& item : list_of(runtime, value)) {
    const Value rank = key(item);
    if (!is_hashable(rank)) throw Error("unique cannot compare a ", type_name(rank));
    if (!rank.is_string()) runtime.spend(seen.items().size());
    if (seen.find(rank) != nullptr) continue;
    seen.set(rank, Value::none());
    out.push_back(item);
  }
  return generator(iterate(runtime, Value::list(std::move(out))), 0);
}

Value least(Runtime& runtime, const Value& value, Arguments arguments, bool greatest) {
  const Bound bound(greatest ? "max" : "min", std::move(arguments), {"case_sensitive", "attribute"}, 0);
  const auto key = key_of(runtime, bound.get(1, Value::none()), bound.flag(0));
  std::optional<Value> best, best_key;
  for (const Value& item : list_of(runtime, value)) {
    Value rank = key(item);
    if (best && !(greatest ? less(*best_key, rank) : less(rank, *best_key))) continue;
    best = item;
    best_key = std::move(rank);
  }
  return best.value_or(Value::undefined("there is no element: the sequence is empty"));
}

Value min_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return least(runtime, value, std::move(arguments), false);
}

Value max_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  return least(runtime, value, std::move(arguments), true);
}

Value groupby_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("groupby", std::move(arguments), {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = bound.flag(2);
  const auto pick = attribute_getter(runtime, bound[0], bound.get(1, Value::none()));
  const auto key = [&](const Value& item) { return case_sensitive ? pick(item) : without_case(pick(item)); };
  std::vector<Value> groups, group;
  const auto close = [&] {
    if (group.empty()) return;
    Value pair = Value::tuple({pick(group[0]), Value::list(group)});
    pair.as<ListObject>().is_group = true;
    groups.push_back(std::move(pair));
    group.clear();
  };
  for (const Value& item : sorted(runtime, list_of(runtime, value), key, false)) {
    if (!group.empty() && !equal(key(group[0]), key(item))) close();
    group.push_back(item);
  }
  close();
  return Value::list(std::move(groups));
}

Value batch_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("batch", std::move(arguments), {"linecount", "fill_with"}, 1);
  const std::int64_t count = bound.integer(0);
  std::vector<Value> out, line;
  for (const Value& item : list_of(runtime, value)) {
    if (static_cast<std::int64_t>(line.size()) == count) {
      out.push_back(Value::list(std::move(line)));
      line.clear();
    }
    line.push_back(item);
  }
  if (!line.empty()) {
    if (bound.given(1)) runtime.spend_repeated(static_cast<std::size_t>(std::max<std::int64_t>(0, count)), 16);
    while (bound.given(1) && static_cast<std::int64_t>(line.size()) < count) line.push_back(bound[1]);
    out.push_back(Value::list(std::move(line)));
  }
  return generator(iterate(runtime, Value::list(std::move(out))), 0);
}

Value slice_filter(Runtime& runtime, const Value& value, Arguments arguments) {
  const Bound bound("slice", std::move(arguments), {"slices", "fill_with"}, 1);
  const std::vector<Value> items = list_of(runtime, value);
  const std::int64_t slices = bound.integer(0);
  if (slices == 0) throw Error("slice() by 0");
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(0, slices));
  runtime.spend_repeated(count, 16);
  std::vector<Value> out;
  std::size_t at = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_longer = i < items.size() % count;
    const std::size_t end = at + items.size() / count + (is_longer ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<std::ptrdiff_t>(at),
                            items.begin() + static_cast<std::ptrdiff_t>(end));
    if (bound.given(1) && !is_longer) part.push_back(bound[1]);
    out.push_back(Value::list(std::move(part)));
    at = end;
  }
  return generator(iterate(runtime, Value::list(std::move(out))), 0);
}

constexpr Filter kListFilters[] = {
    {"length", length_filter}, {"count", length_filter},    {"list", list_filter},         {"first", first_filter},
    {"last", last_filter},     {"join", join_filter},       {"items", items_filter},       {"reverse", reverse_filter},
    {"sort", sort_filter},     {"unique", unique_filter},   {"dictsort", dictsort_filter}, {"min", min_filter},
    {"max", max_filter},       {"groupby", groupby_filter}, {"batch", batch_filter},       {"slice", slice_filter},
};

}  // namespace

std::span<const Filter> list_filters() { return kListFilters; }

}  // namespace bezel::jinja
