// Every file of examples/data is read, with its media; the texts and what is learnt of them are written out by hand.
#include <filesystem>
#include <set>

#include <gtest/gtest.h>

#include "bezel/data/dataset.h"

namespace bezel::data {
namespace {

namespace fs = std::filesystem;

struct Expected {
  const char* file;
  std::string text;  // behind <bos>
  std::string loss;  // the pieces that are learnt, each followed by |
  std::size_t images = 0;
  std::size_t audio_clips = 0;
};

std::string user(const std::string& text) { return "<|turn>user\n" + text + "<turn|>\n"; }
std::string model(const std::string& text) { return "<|turn>model\n" + text + "<turn|>\n"; }
std::string system(const std::string& text) { return "<|turn>system\n" + text + "<turn|>\n"; }

const std::string kTool =
    R"(<|tool>declaration:get_weather{description:<|"|>Weather at a place<|"|>,parameters:{properties:{city:{)"
    R"(description:<|"|>City name<|"|>,type:<|"|>STRING<|"|>}},required:[<|"|>city<|"|>],type:<|"|>OBJECT<|"|>}}<tool|>)";
const std::string kCall = R"(<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>)";

std::vector<Expected> expected_samples() {
  return {
      {"messages.jsonl", system("Be brief.") + user("What is Bezel?") + model("An engine that fine-tunes Gemma 4."),
       "An engine that fine-tunes Gemma 4.<turn|>|"},
      {"messages.jsonl", user("Say hello.") + model("Go away.") + user("Kindly, please.") + model("Hello there!"),
       "Hello there!<turn|>|"},
      {"media_parts.jsonl", user("<|image|>What is this?") + model("A ginger cat."), "A ginger cat.<turn|>|", 1, 0},
      {"media_parts.jsonl", user("<|audio|>How many tones?") + model("Two."), "Two.<turn|>|", 0, 1},
      {"media_parts.jsonl", user("Compare<|image|>and<|image|>.") + model("An animal, and a place."),
       "An animal, and a place.<turn|>|", 2, 0},
      {"trl_lists.jsonl", user("<|image|><|image|>Which one has a sun?") + model("The second."), "The second.<turn|>|",
       2, 0},
      {"trl_lists.jsonl", user("<|audio|>Higher or lower at the end?") + model("Higher."), "Higher.<turn|>|", 0, 1},
      {"openai_parts.jsonl", user("What color is this?<|image|>") + model("Red."), "Red.<turn|>|", 1, 0},
      {"openai_parts.jsonl", user("<|audio|>Speech or a tone?") + model("A tone."), "A tone.<turn|>|", 0, 1},
      {"tools.jsonl",
       system(kTool) + user("Is it warm in Paris?") +
           model(kCall + "<|tool_response>response:get_weather{celsius:24}<tool_response|>Yes, 24 degrees."),
       kCall + "|Yes, 24 degrees.<turn|>|"},
      {"prompt_completion.jsonl", "The capital of France is Paris.<eos>", " Paris.<eos>|"},
      {"prompt_completion.jsonl", user("2 + 3?") + model("5"), "5<turn|>|"},
      {"prompt_completion.jsonl", user("What is 2 + 3?") + model("5"), "5<turn|>|"},
      {"text.jsonl", "Bezel holds the glass of a watch.<eos>", "Bezel holds the glass of a watch.<eos>|"},
      {"text.jsonl", "Already framed.<eos>", "Already framed.<eos>|"},
      {"instructions.jsonl", user("Translate into French.\n\nGood morning") + model("Bonjour"), "Bonjour<turn|>|"},
      {"instructions.jsonl",
       system("You teach French.") + user("Good morning?") + model("Bonjour") + user("And good evening?") +
           model("Bonsoir"),
       "Bonjour<turn|>|Bonsoir<turn|>|"},
      {"sharegpt.jsonl",
       system("Be brief.") + user("<|image|>What is this?") + model("A cat.") + user("And this?<|audio|>") +
           model("Two tones."),
       "A cat.<turn|>|Two tones.<turn|>|", 1, 1},
      {"llama_factory.jsonl", user("<|image|>Who lives here?") + model("A cat."), "A cat.<turn|>|", 1, 0},
      {"llama_factory.jsonl",
       system("You know the weather." + kTool) + user("Is it warm in Paris?") +
           model(kCall + R"(<|tool_response>response:get_weather{value:<|"|>24 degrees<|"|>}<tool_response|>Yes.)"),
       kCall + "|Yes.<turn|>|"},
      {"llama_factory.jsonl", user("<|audio|>How many tones?") + model("Two."), "Two.<turn|>|", 0, 1},
      {"folder/train.jsonl", user("One?") + model("1"), "1<turn|>|"},
      {"folder/train.jsonl", user("Two?") + model("2"), "2<turn|>|"},
      {"folder/valid.jsonl", user("Three?") + model("3"), "3<turn|>|"},
  };
}

Dataset open(const fs::path& file) {
  const auto tokenizer =
      std::make_shared<const Tokenizer>(Tokenizer::from_file(std::string(BEZEL_TEST_DATA) + "/tiny_tokenizer.json"));
  DatasetOptions options;
  options.file = file.string();
  options.media_root = BEZEL_EXAMPLE_DATA;
  options.media.image.max_soft_tokens = 70;
  options.ids.of[MediaKind::kImage] = tokenizer->token_id("<|image|>").value();
  options.ids.of[MediaKind::kAudio] = tokenizer->token_id("<|audio|>").value();
  options.ids.of[MediaKind::kVideo] = tokenizer->token_id("<|video|>").value();
  return Dataset(options, tokenizer);
}

void check(const Dataset& data, std::size_t idx, const Expected& want) {
  SCOPED_TRACE(data.source(idx));
  const SampleText text = data.load_text(idx);
  EXPECT_EQ(text.text, "<bos>" + want.text);
  std::string loss;
  for (const auto& [begin, end] : text.loss_spans) loss += text.text.substr(begin, end - begin) + "|";
  EXPECT_EQ(loss, want.loss);
  const Sample sample = data.load(idx);
  const auto count = [&](MediaKind kind) {
    return static_cast<std::size_t>(std::ranges::count(sample.media, kind, &Media::kind));
  };
  EXPECT_EQ(count(MediaKind::kImage), want.images);
  EXPECT_EQ(count(MediaKind::kAudio), want.audio_clips);
}

TEST(ExampleData, EveryFormIsReadAsWrittenHere) {
  const fs::path folder = BEZEL_EXAMPLE_DATA;
  std::set<std::string> seen;
  std::size_t next = 0;
  const std::vector<Expected> samples = expected_samples();
  while (next < samples.size()) {
    const std::string file = samples[next].file;
    const Dataset data = open(folder / file);
    for (std::size_t i = 0; i < data.size() && next < samples.size(); ++i) {
      ASSERT_EQ(samples[next].file, file) << "line " << i + 1 << " is not listed here";
      check(data, i, samples[next++]);
    }
    seen.insert(file);
  }
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".jsonl") continue;
    EXPECT_TRUE(seen.count(fs::relative(entry.path(), folder).string())) << entry.path();
  }
}

}  // namespace
}  // namespace bezel::data
