#include "cli/sample_text.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "cli/command.h"

namespace bezel::cli {
namespace {

using report::SampleStretch;
using report::SampleView;

constexpr std::size_t kShownTokens = 160;  // at each end of a long sample
constexpr std::size_t kShownBytes = 3000;  // of a text at each end
constexpr std::size_t kLineColumns = 100;

/// How what carries loss, media and what was cut off are set apart.
struct Style {
  std::string learnt, learnt_end, media, media_end, cut, cut_end;
};

Style style(bool color) {
  if (color) return {"\033[1;32m", "\033[0m", "\033[36m", "\033[0m", "\033[2;9m", "\033[0m"};
  return {"⟦", "⟧", "", "", "", ""};
}

std::string counted(std::size_t count, const char* one, const char* many) {
  return with_commas(static_cast<long long>(count)) + " " + (count == 1 ? one : many);
}

// Controls would move the cursor or color what follows.
std::string printable(std::string_view text, bool keep_lines = true) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte != 0x7f) || (c == '\n' && keep_lines)) {
      out += c;
      continue;
    }
    char code[8];
    std::snprintf(code, sizeof code, "\\x%02x", byte);
    out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : code;
  }
  return out;
}

// Cut at the begins of characters.
std::string shortened(std::string_view text, bool whole) {
  if (whole || text.size() <= 2 * kShownBytes) return printable(text);
  const auto is_inside = [&](std::size_t at) { return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; };
  std::size_t head = kShownBytes, tail = text.size() - kShownBytes;
  while (head > 0 && is_inside(head)) --head;
  while (tail < text.size() && is_inside(tail)) ++tail;
  return printable(text.substr(0, head)) + " … " + counted(tail - head, "byte", "bytes") + " … " +
         printable(text.substr(tail));
}

std::string media_line(const data::MediaInfo& media) {
  std::string out = "  " + std::string(input::kMediaWords[media.kind].item);
  out.resize(13, ' ');
  out += media.path.empty() ? "(in the sample)" : printable(media.path);
  char size[160];
  if (media.kind == data::MediaKind::kAudio)
    std::snprintf(size, sizeof size, ", %.2f s", static_cast<double>(media.samples) / input::kAudioSampleRate);
  else
    std::snprintf(size, sizeof size, ", %lld x %lld pixels", static_cast<long long>(media.size.width),
                  static_cast<long long>(media.size.height));
  out += size;
  if (media.kind == data::MediaKind::kVideo) {
    std::snprintf(size, sizeof size, ", %zu of %lld frames at %.3g a second", media.tokens.times.size(),
                  static_cast<long long>(media.num_frames), media.fps);
    out += size;
  }
  return out + ", " + counted(static_cast<std::size_t>(media.soft_tokens()), "soft token", "soft tokens") + "\n";
}

std::string head(const SampleView& view) {
  std::string out = view.source + (view.answer.empty() ? "" : ", " + view.answer) + ": " +
                    counted(view.ids.size(), "token", "tokens") + ", " +
                    with_commas(static_cast<long long>(view.num_labels)) + " with loss";
  if (view.whole_tokens > view.ids.size())
    out += ", cut from " + with_commas(static_cast<long long>(view.whole_tokens)) + " to max_seq_length";
  out += "\n";
  for (const data::MediaInfo& media : view.media) out += media_line(media);
  return out;
}

std::string text_part(const SampleView& view, const Style& style, bool whole) {
  std::string out;
  for (const SampleStretch& stretch : view.stretches) {
    if (stretch.media) {
      out += style.media + "[" + counted(stretch.num_tokens, "soft token", "soft tokens") + " of a " +
             std::string(input::kMediaWords[*stretch.media].item) + "]" + style.media_end;
      continue;
    }
    const std::string text = shortened(stretch.text, whole);
    out += stretch.learnt ? style.learnt + text + style.learnt_end : text;
  }
  if (!view.cut_text.empty())
    out += "\n-- cut off: " + counted(view.whole_tokens - view.ids.size(), "token", "tokens") + " --\n" + style.cut +
           shortened(view.cut_text, whole) + style.cut_end;
  return out;
}

struct Cell {
  std::string text;
  bool learnt = false;
};

// "105 <|turn>" for each token; alike ones without loss, as soft tokens are, together.
std::vector<Cell> cells_of(const SampleView& view) {
  std::vector<Cell> cells;
  for (std::size_t i = 0; i < view.ids.size();) {
    std::size_t end = i + 1;
    while (end < view.ids.size() && view.ids[end] == view.ids[i] && !view.learnt[i] && !view.learnt[end]) ++end;
    std::string text = std::to_string(view.ids[i]) + " " + printable(view.words[i], /*keep_lines=*/false);
    if (end - i > 1) text += " x " + std::to_string(end - i);
    cells.push_back({std::move(text), view.learnt[i]});
    i = end;
  }
  return cells;
}

// As many cells as fit into a line; those with loss in color or between marks.
std::string token_part(const SampleView& view, const Style& style, bool whole) {
  const std::vector<Cell> cells = cells_of(view);
  std::string out = "  ";
  std::size_t columns = 0;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (!whole && i == kShownTokens && cells.size() > 2 * kShownTokens) {
      i = cells.size() - kShownTokens;
      out += "\n  … " + counted(i - kShownTokens, "token", "tokens") + " …\n  ";
      columns = 0;
    }
    if (columns + cells[i].text.size() + 3 > kLineColumns) {
      out += "\n  ";
      columns = 0;
    }
    columns += cells[i].text.size() + 3;
    out += (cells[i].learnt ? style.learnt + cells[i].text + style.learnt_end : cells[i].text) + "   ";
  }
  return out + "\n";
}

}  // namespace

std::string sample_text(const SampleView& view, bool color, bool whole) {
  const Style with = style(color);
  return head(view) + "\n" + text_part(view, with, whole) + "\n\n" + token_part(view, with, whole);
}

}  // namespace bezel::cli
