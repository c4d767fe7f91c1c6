#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "bezel/data/sample_text.h"
#include "bezel/io/json.h"

namespace bezel::data {

/// Fills sample.images and sample.audios from the media parts of `messages` (may be null) and the lists `images` and
/// `audios` of `line`; sample.text must be rendered already. Throws Error when their number is not that of the
/// placeholders in the text.
void collect_media(const io::JsonView& line, const io::Json* messages, SampleText& sample);

/// How often `part`, a placeholder, stands in `text`.
std::size_t count_of(std::string_view text, std::string_view part);

}  // namespace bezel::data
