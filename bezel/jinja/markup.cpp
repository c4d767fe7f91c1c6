#include "bezel/jinja/markup.h"

namespace bezel::jinja {

TracedText escaped(Runtime& runtime, const Value& value) {
  const TracedText text = runtime.text_of(value);
  if (value.is_markup()) return text;
  constexpr std::string_view kSpecial = "&<>'\"";
  constexpr std::string_view kEntities[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  TracedText out;
  std::size_t done = 0;
  for (std::size_t at = text.bytes().find_first_of(kSpecial); at != std::string::npos;
       at = text.bytes().find_first_of(kSpecial, at + 1)) {
    out.append(text, done, at);
    out.append(kEntities[kSpecial.find(text.bytes()[at])], text.origin_at(at));
    done = at + 1;
  }
  out.append(text, done, text.size());
  runtime.spend_text(out.size());
  return out;
}

}  // namespace bezel::jinja
