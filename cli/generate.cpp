#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <random>

#include <ATen/Parallel.h>
#include <ATen/Utils.h>
#include <unistd.h>

#include "bezel/data/new_tokens.h"
#include "bezel/error.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/generate/conversation.h"
#include "bezel/generate/generator.h"
#include "bezel/generate/settings.h"
#include "bezel/generate/text_stream.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/device.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/residency.h"
#include "bezel/train/use_adapter.h"
#include "cli/command.h"
#include "cli/embeddings_option.h"
#include "cli/mmproj_option.h"

namespace bezel::cli {
namespace {

struct GenerateArguments {
  std::string model;
  std::string mmproj;
  std::vector<std::string> adapters;
  generate::Question question;
  std::string inputs;
  generate::ConversationOptions conversation;
  std::string dtype = "bfloat16", storage = "dense", device = "cpu";
  int threads = 0;
  std::int64_t prefill_tokens = 512;
  std::optional<double> temperature, top_p;
  std::optional<std::int64_t> top_k, max_new_tokens;
  std::optional<std::uint64_t> seed;
  bool has_prompt = false, chat = false, greedy = false, ignore_eos = false, json = false, embeddings_in_int8 = false;
};

volatile std::sig_atomic_t stop_signal = 0;

void on_signal(int number) { stop_signal = number; }

// Once: the answer ends, as does a read from the terminal. Twice: at once.
void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // and no SA_RESTART
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
}

void check_usage(const GenerateArguments& options) {
  const int sources = options.has_prompt + options.chat + !options.inputs.empty();
  // --chat takes a first question along.
  if (sources != 1 && !(options.chat && options.has_prompt && options.inputs.empty()))
    throw Error(ErrorKind::kConfig, "give one of --prompt TEXT, --chat and --inputs FILE");
  if (!options.inputs.empty() && options.question.media != generate::Question{}.media)
    throw Error(ErrorKind::kConfig, "--inputs holds its media itself: leave out --image, --audio and --video");
  if (options.chat && options.adapters.size() > 1)
    throw Error(ErrorKind::kConfig, "--chat takes one --adapter: answers of several would be several conversations");
  if (options.chat && options.conversation.raw)
    throw Error(ErrorKind::kConfig, "--raw has no turns, and --chat is made of them");
  if (options.conversation.raw && (!options.conversation.system.empty() || options.conversation.thinking))
    throw Error(ErrorKind::kConfig, "--system and --thinking are parts of the chat template, which --raw leaves out");
  if (options.greedy && (options.temperature || options.top_k || options.top_p))
    throw Error(ErrorKind::kConfig, "--greedy draws nothing: leave out --temperature, --top-k and --top-p");
}

/// What runs through all answers.
class Session {
 public:
  explicit Session(const GenerateArguments& options);

  /// Answers what was asked last, with the adapter that is attached; returns the answer.
  generate::Generated answer(const data::Batch& prompt, const std::string& adapter);
  /// One answer of each adapter, several of them behind that of the base.
  void compare(const data::Batch& prompt);
  void chat();

  /// The prompt of --prompt or --inputs.
  data::Batch prompt();

 private:
  void take(const std::string& adapter);
  void print_json(const data::Batch& prompt, const generate::Generated& out, const std::string& text,
                  const std::string& adapter) const;
  bool read_question(generate::Question& question);

  const GenerateArguments& options_;
  const std::vector<data::AddedToken> new_tokens_;  // of the adapters
  const gemma4::ModelFiles files_;
  generate::Conversation conversation_;
  generate::SamplingOptions sampling_;
  generate::GenerateOptions limits_;
  std::uint64_t seed_ = 0;
  gemma4::Model model_{nullptr};
  gemma4::ImageAttention image_attention_ = gemma4::ImageAttention::kSlidingLayers;
  std::optional<train::PinnedDecoder> pinned_;
  std::unique_ptr<generate::Generator> generator_;
};

// All answers have one vocabulary.
std::vector<data::AddedToken> tokens_of_adapters(const GenerateArguments& options) {
  std::vector<data::AddedToken> all;
  std::string from;
  for (const std::string& adapter : options.adapters) {
    std::vector<data::AddedToken> tokens = data::tokens_of_adapter(options.model, adapter);
    if (tokens.empty()) continue;
    if (!all.empty() && !std::ranges::equal(all, tokens, {}, &data::AddedToken::content, &data::AddedToken::content))
      throw Error(ErrorKind::kConfig, "--adapter: ", from, " and ", adapter,
                  " add other tokens to the vocabulary; ask one after the other");
    all = std::move(tokens);
    from = adapter;
  }
  return all;
}

generate::ConversationOptions with_tokens(generate::ConversationOptions options,
                                          const std::vector<data::AddedToken>& tokens) {
  options.new_tokens = tokens;
  return options;
}

Session::Session(const GenerateArguments& options)
    : options_(options),
      new_tokens_(tokens_of_adapters(options)),
      files_(train::with_rows_for({options.model, options.mmproj}, new_tokens_)),
      conversation_(options.model, gemma4::read_model_config(files_), with_tokens(options.conversation, new_tokens_)) {
  generate::Settings settings =
      generate::read_settings(options.model, conversation_.tokenizer(), options.conversation.chat_template);
  sampling_ = settings.sampling;
  if (options.greedy || options.temperature == 0.0) sampling_.greedy = true;
  if (options.temperature.value_or(0.0) != 0.0 || options.top_k || options.top_p) sampling_.greedy = false;
  sampling_.temperature = options.temperature.value_or(sampling_.temperature);
  sampling_.top_k = options.top_k.value_or(sampling_.top_k);
  sampling_.top_p = options.top_p.value_or(sampling_.top_p);
  generate::check_sampling(sampling_);
  seed_ = options.seed ? *options.seed : std::random_device{}();
  limits_.max_new_tokens = options.max_new_tokens.value_or(settings.max_new_tokens.value_or(512));
  if (!options.ignore_eos) limits_.stop_ids = settings.stop_ids;
  for (const std::string& note : settings.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  const torch::ScalarType dtype = options.dtype == "float32" ? torch::kFloat : torch::kBFloat16;
  gemma4::LoadedModel loaded = gemma4::load_model(
      files_, {dtype,
               train::choose_device(options.device),
               {.storage = quant::parse_storage(options.storage), .quantize_embeddings = options.embeddings_in_int8}});
  print_warnings(loaded.warnings);
  model_ = loaded.model;
  if (options.embeddings_in_int8) check_embeddings_in_int8(model_, options.model);
  image_attention_ = model_->config().text.image_attention;
  pinned_.emplace(model_);
  generator_ = std::make_unique<generate::Generator>(model_, options.prefill_tokens);
}

void Session::take(const std::string& adapter) {
  lora::detach_all(*model_);
  model_->set_image_attention(image_attention_);  // of the base, until an adapter says otherwise
  if (!adapter.empty()) print_warnings(train::use_adapter(model_, adapter).notes);
  if (options_.embeddings_in_int8) warn_of_whole_head(model_, adapter);
  model_->eval();
  generator_->reset();
}

void Session::print_json(const data::Batch& prompt, const generate::Generated& out, const std::string& text,
                         const std::string& adapter) const {
  constexpr const char* kFinish[] = {"stop", "length", "interrupted"};
  const auto* ids = prompt.input_ids.data_ptr<std::int64_t>();
  nlohmann::ordered_json line;
  line["adapter"] = adapter.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(adapter);
  line["prompt_ids"] = std::vector<std::int64_t>(ids, ids + prompt.input_ids.numel());
  line["tokens"] = out.tokens;
  line["text"] = text;
  line["finish"] = kFinish[static_cast<int>(out.finish)];
  if (!sampling_.greedy) line["seed"] = seed_;
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

generate::Generated Session::answer(const data::Batch& prompt, const std::string& adapter) {
  generate::Sampler sampler(sampling_, seed_);
  // Thoughts are set apart by special tokens, which therefore show with --thinking.
  generate::TextStream stream(conversation_.tokenizer(), !options_.conversation.thinking);
  const auto is_stop = [&](std::int64_t token) {
    return std::ranges::find(limits_.stop_ids, token) != limits_.stop_ids.end();
  };
  std::string text;
  const auto show = [&](const std::string& piece) {
    text += piece;
    if (options_.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  const generate::Generated out = generate::generate(*generator_, prompt, sampler, limits_, [&](std::int64_t token) {
    if (token >= 0 && !is_stop(token)) show(stream.push(token));
    return stop_signal == 0;
  });
  show(stream.finish());
  if (options_.json)
    print_json(prompt, out, text, adapter);
  else
    std::printf("\n");
  return out;
}

data::Batch Session::prompt() {
  if (!options_.inputs.empty()) return model_->make_batch(data::read_raw_inputs(options_.inputs));
  conversation_.ask(options_.question);
  return conversation_.prompt();
}

void Session::compare(const data::Batch& prompt) {
  std::vector<std::string> adapters = options_.adapters;
  if (adapters.size() != 1) adapters.insert(adapters.begin(), "");
  for (const std::string& adapter : adapters) {
    if (stop_signal != 0) return;
    if (!options_.json && adapters.size() > 1)
      std::printf("%s== %s ==\n", adapter.empty() ? "" : "\n", adapter.empty() ? "base" : adapter.c_str());
    take(adapter);
    answer(prompt, adapter);
  }
}

// "/image FILE, /audio FILE, /video FILE"
std::string media_commands() {
  std::string out;
  for (const input::MediaWords& words : input::kMediaWords.values)
    out += (out.empty() ? "/" : ", /") + std::string(words.part) + " FILE";
  return out;
}

bool take_media(generate::Question& question) {
  for (const input::MediaKind kind : input::kMediaKinds) {
    const std::string command = "/" + std::string(input::kMediaWords[kind].part) + " ";
    if (!question.text.starts_with(command)) continue;
    question.media[kind].push_back(question.text.substr(command.size()));
    return true;
  }
  return false;
}

bool Session::read_question(generate::Question& question) {
  const bool is_terminal = ::isatty(STDIN_FILENO) == 1;
  while (true) {
    if (is_terminal) std::fprintf(stderr, "> ");
    if (!std::getline(std::cin, question.text)) return false;
    if (question.text.ends_with('\r')) question.text.pop_back();
    if (question.text == "/quit") return false;
    if (question.text == "/new")
      conversation_.clear();
    else if (!take_media(question) && !question.text.empty())
      return true;
  }
}

void Session::chat() {
  const std::string adapter = options_.adapters.empty() ? "" : options_.adapters[0];
  take(adapter);
  const bool is_terminal = ::isatty(STDIN_FILENO) == 1;
  if (is_terminal)
    std::fprintf(stderr, "%s go with the next question; /new forgets, /quit ends\n", media_commands().c_str());
  generate::Question question = options_.question;
  bool asked = options_.has_prompt;
  while (stop_signal == 0 && (asked || read_question(question))) {
    asked = false;
    try {
      conversation_.ask(question);
    } catch (const Error& error) {
      // A mistyped file name should not end a conversation; a script has to learn of it.
      if (!is_terminal) throw;
      std::fprintf(stderr, "bezel: %s\n", error.what());
      question = {};
      continue;
    }
    question = {};
    const generate::Generated out = answer(conversation_.prompt(), adapter);
    conversation_.answer(out.tokens);
    if (!is_terminal || out.finish != generate::Finish::kInterrupted || stop_signal != SIGINT) continue;
    // Ctrl-C while the model speaks ends its answer only.
    stop_signal = 0;
    catch_signals();
  }
}

int generate_text(const GenerateArguments& options) {
  check_usage(options);
  if (options.threads > 0) at::set_num_threads(options.threads);
  catch_signals();
  Session session(options);
  if (options.chat)
    session.chat();
  else
    session.compare(session.prompt());
  return stop_signal == 0 ? 0 : 128 + static_cast<int>(stop_signal);
}

void add_input_options(CLI::App& command, GenerateArguments& options) {
  command.add_option("--model", options.model, "checkpoint folder or GGUF file")->required();
  add_mmproj_option(command, options.mmproj);
  command.add_option("--adapter", options.adapters, "PEFT adapter folder; several are compared with the base");
  command.add_option("--prompt", options.question.text, "what to ask; with --chat the first question");
  for (const input::MediaKind kind : input::kMediaKinds)
    command.add_option("--" + std::string(input::kMediaWords[kind].part), options.question.media[kind],
                       std::string(input::kMediaWords[kind].formats) + "; put before the text");
  command.add_flag("--chat", options.chat, "a conversation, a question a line");
  command.add_option("--system", options.conversation.system, "text of the system turn");
  command.add_option("--chat-template", options.conversation.chat_template,
                     "file that renders the chat (default: the checkpoint's)");
  command.add_flag("--thinking", options.conversation.thinking, "let the model think, and show it");
  command.add_flag("--raw", options.conversation.raw, "no chat template: the model goes on where the prompt ends");
  command.add_option("--max-soft-tokens", options.conversation.max_soft_tokens,
                     "budget of an image: 70, 140, 280, 560 or 1120");
  command.add_option("--video-frames", options.conversation.video.num_frames, "of each video: 32");
  command.add_option("--video-fps", options.conversation.video.fps,
                     "frames of each second of a video, in place of that");
  command.add_option("--video-soft-tokens", options.conversation.video.soft_tokens,
                     "budget of a frame: 70, 140, 280, 560 or 1120");
  command.add_option("--inputs", options.inputs, "safetensors file with in.input_ids, in.pixel_values … as a prompt");
}

void add_sampling_options(CLI::App& command, GenerateArguments& options) {
  command.add_flag("--greedy", options.greedy, "always the most probable token");
  command.add_option("--temperature", options.temperature, "divides the logits; 0 is --greedy")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-k", options.top_k, "only the k most probable tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", options.top_p, "only the most probable tokens up to this sum")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--seed", options.seed, "of sampling; default: another each time");
  command.add_option("--max-new-tokens", options.max_new_tokens, "default: the checkpoint's, else 512")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30));
  command.add_flag("--ignore-eos", options.ignore_eos, "go on behind <turn|> and <eos>");
}

void add_machine_options(CLI::App& command, GenerateArguments& options) {
  command.add_option("--dtype", options.dtype, "of the arithmetic")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command.add_option("--storage", options.storage, "of the frozen weights; codes in a checkpoint stay as they are")
      ->check(CLI::IsMember({"dense", "nf4", "int8"}))
      ->capture_default_str();
  add_embeddings_option(command, options.embeddings_in_int8);
  command.add_option("--device", options.device, "cpu, cuda, cuda:N or auto")->capture_default_str();
  command.add_option("--threads", options.threads, "0: as many as there are cores")->check(CLI::Range(0, 4096));
  command.add_option("--prefill-tokens", options.prefill_tokens, "of the prompt that are read at a time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_flag("--json", options.json, "one JSON line an answer: token ids, text, why it ended");
}

}  // namespace

void add_generate(CLI::App& app, int& status) {
  auto options = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("generate", "Text from a prompt, images and audio clips, as it comes");
  add_input_options(*command, *options);
  add_sampling_options(*command, *options);
  add_machine_options(*command, *options);
  command->footer(
      "What the options leave open is as generation_config.json of the checkpoint says: greedy where it does not.");
  command->callback([options, command, &status] {
    options->has_prompt = command->count("--prompt") > 0;
    status = generate_text(*options);
  });
}

}  // namespace bezel::cli
