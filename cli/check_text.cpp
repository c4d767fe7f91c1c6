#include "cli/check_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "bezel/lora/config.h"
#include "bezel/report/html_text.h"
#include "cli/command.h"

namespace bezel::cli {
namespace {

using io::Json;

constexpr std::size_t kShownBad = 20;
constexpr int kBarColumns = 40;

std::string number(const Json& value) { return with_commas(value.get<long long>()); }

std::string row(const std::string& name, const std::string& text) {
  return name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + text + "\n";
}

std::string bytes(const Json& value) { return bytes_text(value.get<double>()); }

std::string bad_rows(const Json& data) {
  const Json& bad = data["bad"];
  std::string out;
  for (std::size_t i = 0; i < std::min(bad.size(), kShownBad); ++i) out += "  " + bad[i].get<std::string>() + "\n";
  const auto all = data["bad_samples"].get<std::size_t>();
  if (all > kShownBad)
    out += "  … and " + with_commas(static_cast<long long>(all - kShownBad)) + " more" +
           (bad.size() > kShownBad ? " (--json lists them)\n" : "\n");
  return out;
}

std::string histogram(const Json& bins) {
  long long most = 1;
  for (const Json& bin : bins) most = std::max(most, bin["count"].get<long long>());
  std::string out;
  for (const Json& bin : bins) {
    const auto count = bin["count"].get<long long>();
    // A bin that holds anything shows.
    const auto cells = static_cast<int>((count * kBarColumns + most - 1) / most);
    std::string bar;
    for (int i = 0; i < cells; ++i) bar += "█";
    char range[64];
    std::snprintf(range, sizeof range, "  %7s … %-7s ", number(bin["from"]).c_str(), number(bin["to"]).c_str());
    out += range + bar + (bar.empty() ? "" : " ") + with_commas(count) + "\n";
  }
  return out;
}

// "image_tokens"
std::string tokens_key(const input::MediaWords& words) { return std::string(words.part) + "_tokens"; }

std::string data_text(const Json& data) {
  std::string out = row("samples", number(data["samples"]) + " of " + number(data["lines"]) + " lines in " +
                                       data["file"].get<std::string>());
  if (data["bad_samples"] != 0)
    out += row("bad", number(data["bad_samples"]) + ", each with its line:") + bad_rows(data);
  if (data["cut_samples"] != 0) out += row("cut", number(data["cut_samples"]) + " at their end, to max_seq_length");
  for (const Json& note : data["notes"]) out += row("note", note.get<std::string>());
  out += row("tokens", number(data["tokens"]) + ", " + number(data["label_tokens"]) + " with loss");
  for (const input::MediaWords& words : input::kMediaWords.values)
    if (const Json& count = data[std::string(words.count)]; count != 0)
      out += row(std::string(words.items).c_str(),
                 number(count) + ", " + number(data[tokens_key(words)]) + " soft tokens");
  return out + "lengths in tokens, and samples:\n" + histogram(data["lengths"]);
}

std::string memory_text(const Json& run) {
  const Json& memory = run["memory"];
  std::string out = row("memory", "about " + bytes(memory["total"]) + ", of which weights " + bytes(memory["weights"]) +
                                      ", activations at most " + bytes(memory["activations"]) +
                                      (run["recompute"].get<bool>() ? " (recomputed)" : "") + ", adapters " +
                                      bytes(memory["adapters"]) + ", logits " + bytes(memory["loss"]) + ", program " +
                                      bytes(memory["process"]));
  if (memory.contains("device"))
    return out + row("device", "about " + bytes(memory["device"]) + " resident there" +
                                   (memory["host_tables"] == 0 ? ""
                                                               : "; " + bytes(memory["host_tables"]) +
                                                                     " of embeddings stay in the host's memory "
                                                                     "(embeddings_on: host)"));
  const double free = run["available_bytes"].get<double>();
  return out + row("", bytes_text(free) + " are free" +
                           (memory["total"].get<double>() > free ? ": THIS DOES NOT FIT; see docs/qlora.md" : ""));
}

std::string shared_text(const Json& run) {
  char text[120];
  std::snprintf(text, sizeof text, "%.1f %% of the tokens, which samples of a step begin alike by%s",
                100 * run["shared_tokens"].get<double>(),
                run["shares_prefixes"].get<bool>() ? ", are spared" : "; each sample is computed by itself");
  return row("shared", text);
}

std::string notes_text(const Json& run) {
  std::string out;
  for (const Json& note : run["notes"]) out += row("note", note.get<std::string>());
  return out;
}

std::string run_text(const Json& run) {
  std::string out = row(
      "steps", number(run["total_steps"]) + ", " + number(run["steps_per_epoch"]) + " an epoch, of " +
                   counted(run["train_samples"].get<long long>(), "sample") +
                   (run["packing"].get<bool>() ? " packed into " + counted(run["rows"].get<long long>(), "row") : "") +
                   "; " + number(run["held_out_samples"]) + " held out");
  if (run["shared_tokens"].get<double>() >= 0.005) out += shared_text(run);
  for (const Json& tower : run["towers"])
    if (tower["layers"] == 0)
      out += row("frozen", tower["tower"].get<std::string>() + ": lora_towers: [language, experts] adapts them");
    else
      out += row("trained", tower["tower"].get<std::string>() + ": " + number(tower["layers"]) + " layers, " +
                                number(tower["parameters"]) + " parameters");
  out += memory_text(run);
  if (run["memory"].contains("device"))
    return out + row("time", "not estimated: it depends on the device") + notes_text(run);
  char text[200];
  std::snprintf(text, sizeof text,
                "more than %s: an estimate, from %.2e operations, and %.0f GFLOP/s of a matrix product on this CPU "
                "just now",
                report::duration_text(run["least_seconds"].get<double>()).c_str(), run["flops"].get<double>(),
                run["flops_per_s"].get<double>() / 1e9);
  return out + row("time", text) + notes_text(run);
}

}  // namespace

io::Json sample_json(const report::SampleView& view) {
  Json media = Json::array();
  for (const data::MediaInfo& item : view.media) {
    media.push_back(
        {{"kind", input::kMediaWords[item.kind].part}, {"path", item.path}, {"soft_tokens", item.soft_tokens()}});
    if (item.kind == input::MediaKind::kAudio) {
      media.back()["seconds"] = static_cast<double>(item.samples) / input::kAudioSampleRate;
      continue;
    }
    media.back()["width"] = item.size.width;
    media.back()["height"] = item.size.height;
    if (item.kind != input::MediaKind::kVideo) continue;
    media.back()["frames"] = item.num_frames;
    media.back()["fps"] = item.fps;
    media.back()["times"] = item.tokens.times;
  }
  std::string text;
  for (const report::SampleStretch& stretch : view.stretches)
    text += stretch.media ? std::string(input::kMediaWords[*stretch.media].placeholder) : stretch.text;
  Json json = {{"source", view.source},
               {"text", text},
               {"tokens", view.ids.size()},
               {"label_tokens", view.num_labels},
               {"tokens_before_cut", view.whole_tokens},
               {"cut_text", view.cut_text},
               {"media", media},
               {"input_ids", view.ids},
               {"words", view.words},
               {"learnt", view.learnt}};
  if (!view.answer.empty()) json["answer"] = view.answer;
  return json;
}

io::Json check_json(const data::Dataset& data, const report::DataCheck& check) {
  const data::DatasetReport& lines = data.report();
  Json lengths = Json::array();
  for (const report::LengthBin& bin : report::length_histogram(check.lengths))
    lengths.push_back({{"from", bin.from}, {"to", bin.to}, {"count", bin.count}});
  std::vector<std::string> bad = lines.bad;
  bad.insert(bad.end(), check.bad_media.begin(), check.bad_media.end());
  Json out = {{"file", data.name()},
              {"lines", lines.num_lines},
              {"samples", data.size()},
              {"bad_samples", lines.num_bad + check.bad_media.size()},
              {"bad", bad},
              {"too_long_samples", lines.num_too_long},
              {"cut_samples", lines.num_cut},
              {"thoughts_left_out", lines.thoughts.count},
              {"empty_answers", lines.empty_answers.count},
              {"added_requests", lines.added_requests.count},
              {"long_audio_clips", lines.long_audio_clips.count},
              {"notes", data.left_out_notes()},
              {"tokens", check.tokens()},
              {"label_tokens", check.label_tokens}};
  for (const input::MediaKind kind : input::kMediaKinds) {
    const input::MediaWords& words = input::kMediaWords[kind];
    out[std::string(words.count)] = check.media[kind].items;
    out[tokens_key(words)] = check.media[kind].soft_tokens;
  }
  out["lengths"] = lengths;
  return out;
}

io::Json estimate_json(const report::RunEstimate& run) {
  Json towers = Json::array();
  for (const lora::TowerCount& count : run.towers)
    towers.push_back({{"tower", std::string(lora::tower_name(count.tower))},
                      {"layers", count.layers},
                      {"parameters", count.parameters}});
  return {{"train_samples", run.num_train},
          {"held_out_samples", run.num_eval},
          {"packing", run.packs},
          {"rows", run.num_rows},
          {"steps_per_epoch", run.steps_per_epoch},
          {"total_steps", run.total_steps},
          {"towers", towers},
          {"shares_prefixes", run.shares_prefixes},
          {"shared_tokens", run.shared_tokens},
          {"recompute", run.recompute},
          {"memory", report::memory_json(run.memory, run.on_device)},
          {"available_bytes", run.available_bytes},
          {"tokens", run.work.tokens},
          {"flops", run.flops},
          {"flops_per_s", run.flops_per_s},
          {"least_seconds", run.least_seconds()},
          {"notes", run.notes}};
}

std::string row_text(std::size_t idx, std::size_t tokens, const Json& samples) {
  std::string out = "\nrow " + std::to_string(idx + 1) +
                    " of the first epoch, packed: " + with_commas(static_cast<long long>(tokens)) + " tokens\n";
  for (const Json& sample : samples)
    out += "  " + sample["source"].get<std::string>() + ": " + number(sample["tokens"]) + "\n";
  return out;
}

bool is_good(const data::Dataset& data, const report::DataCheck& check) {
  return data.report().num_bad == 0 && check.bad_media.empty();
}

std::string check_text(const Json& report) {
  std::string out = data_text(report["train"]);
  if (report.contains("eval")) out += "\n" + data_text(report["eval"]);
  return out + "\n" + run_text(report["run"]);
}

}  // namespace bezel::cli
