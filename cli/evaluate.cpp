#include "bezel/train/evaluate.h"

#include <cstdio>
#include <filesystem>
#include <memory>

#include <ATen/Parallel.h>
#include <unistd.h>

#include "bezel/data/data_folder.h"
#include "bezel/data/new_tokens.h"
#include "bezel/error.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/generate/settings.h"
#include "bezel/io/atomic_write.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/device.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/use_adapter.h"
#include "cli/command.h"
#include "cli/embeddings_option.h"
#include "cli/evaluate_pairs.h"
#include "cli/mmproj_option.h"
#include "cli/shared_tokens.h"

namespace bezel::cli {
namespace {

using io::Json;

constexpr const char* kMethod =
    "paired by sample: ratio of sums over samples, linearized, Student's t, 95%; see docs/EVALUATE.md";

struct EvaluateArguments {
  train::TrainConfig config;  // the keys of it that say how data is read and weights are kept
  std::string adapter;
  std::string per_sample;
  std::string share_prefixes = "auto";
  std::size_t limit = 0;
  std::int64_t max_new_tokens = 256;
  int threads = 0;
  bool generate = false, ignore_case = false, json = false, pairs = false;
};

Json means_json(const train::EvaluationMeans& means) {
  return {{"loss", means.loss}, {"perplexity", means.perplexity}, {"token_accuracy", means.accuracy}};
}

Json difference_json(const std::vector<train::PairedSums>& sums) {
  Json json{{"difference", train::paired_difference(sums)}, {"interval", nullptr}};
  if (const auto interval = train::paired_interval(sums)) json["interval"] = {interval->low, interval->high};
  return json;
}

Json rates_json(const train::AnswerRates& rates) {
  return {{"exact_match", rates.exact}, {"contains", rates.contains}, {"unfinished", rates.unfinished}};
}

// How the models answered; the rates are shown beside their losses.
void add_answers(const train::Evaluation& evaluation, const EvaluateArguments& options, Json& summary) {
  const train::AnswerRates base = train::answer_rates(evaluation, false);
  summary["answers"] = {{"samples", base.samples},
                        {"without_prompt", static_cast<std::int64_t>(evaluation.samples.size()) - base.samples},
                        {"max_new_tokens", options.max_new_tokens},
                        {"ignore_case", options.ignore_case}};
  if (base.samples == 0) return;
  summary["base"].update(rates_json(base));
  if (!summary.contains("adapter")) return;
  summary["adapter"].update(rates_json(train::answer_rates(evaluation, true)));
  summary["exact_match_difference"] = difference_json(train::paired_exact(evaluation));
  summary["contains_difference"] = difference_json(train::paired_contains(evaluation));
}

Json summary_json(const train::Evaluation& evaluation, const EvaluateArguments& options,
                  const data::DatasetReport& data) {
  const train::EvaluationMeans base = train::evaluation_means(evaluation, false);
  Json json{{"samples", evaluation.samples.size()},
            {"label_tokens", base.label_tokens},
            {"samples_cut", data.num_cut},
            {"samples_left_out", data.num_too_long + data.num_bad + evaluation.bad.size()},
            {"base", means_json(base)}};
  add_shared_tokens(evaluation.shared.shares, evaluation.shared.saved(), json);
  if (!options.adapter.empty()) {
    json["adapter"] = means_json(train::evaluation_means(evaluation, true));
    json["loss_difference"] = difference_json(train::paired_losses(evaluation));
    json["token_accuracy_difference"] = difference_json(train::paired_correct(evaluation));
    json["interval_method"] = kMethod;
  }
  if (options.generate) add_answers(evaluation, options, json);
  return json;
}

void print_row(const char* name, const Json& means) {
  std::printf("%-10s %10.4f %12.4f %14.2f%%", name, means["loss"].get<double>(), means["perplexity"].get<double>(),
              100 * means["token_accuracy"].get<double>());
  if (means.contains("exact_match"))
    std::printf(" %11.2f%% %9.2f%%", 100 * means["exact_match"].get<double>(), 100 * means["contains"].get<double>());
  std::printf("\n");
}

void print_answers(const Json& summary) {
  const Json& answers = summary["answers"];
  std::printf("%s answered", with_commas(answers["samples"].get<long long>()).c_str());
  if (answers["without_prompt"] != 0)
    std::printf(", %s have no prompt", with_commas(answers["without_prompt"].get<long long>()).c_str());
  for (const char* model : {"base", "adapter"})
    if (summary.contains(model) && summary[model].value("unfinished", 0) != 0)
      std::printf("; %s: %s cut off at %s tokens", model,
                  with_commas(summary[model]["unfinished"].get<long long>()).c_str(),
                  with_commas(answers["max_new_tokens"].get<long long>()).c_str());
  std::printf("\n");
}

void print_difference(const char* what, const Json& difference, double unit, const char* suffix) {
  std::printf("%s: adapter - base = %+.4f%s", what, unit * difference["difference"].get<double>(), suffix);
  if (!difference["interval"].is_null())
    std::printf(", 95%% interval [%+.4f, %+.4f]", unit * difference["interval"][0].get<double>(),
                unit * difference["interval"][1].get<double>());
  std::printf("\n");
}

void print(const Json& summary) {
  std::printf("%s samples, %s label tokens", with_commas(summary["samples"].get<long long>()).c_str(),
              with_commas(summary["label_tokens"].get<long long>()).c_str());
  if (summary["samples_left_out"] != 0 || summary["samples_cut"] != 0)
    std::printf(" (%s samples left out, %s cut)", with_commas(summary["samples_left_out"].get<long long>()).c_str(),
                with_commas(summary["samples_cut"].get<long long>()).c_str());
  std::printf("\n");
  std::printf("%s", shared_tokens_text(summary).c_str());
  if (summary.contains("answers")) print_answers(summary);
  std::printf("\n%-10s %10s %12s %15s", "", "loss", "perplexity", "token accuracy");
  if (summary["base"].contains("exact_match")) std::printf(" %12s %10s", "exact match", "contains");
  std::printf("\n");
  print_row("base", summary["base"]);
  if (!summary.contains("adapter")) return;
  print_row("adapter", summary["adapter"]);
  std::printf("\n");
  print_difference("loss", summary["loss_difference"], 1, "");
  print_difference("token accuracy", summary["token_accuracy_difference"], 100, " points");
  if (summary.contains("exact_match_difference")) {
    print_difference("exact match", summary["exact_match_difference"], 100, " points");
    print_difference("contains", summary["contains_difference"], 100, " points");
  }
  std::printf("Intervals: %s.\n", summary["interval_method"].get<std::string>().c_str());
}

void add_answer(const train::AnsweredSample& answered, Json& line) {
  const auto answer = [](const train::SampleAnswer& answer) {
    return Json{{"predicted", answer.said.text},
                {"predicted_tokens", answer.said.num_tokens},
                {"finished", answer.said.finished},
                {"exact_match", answer.score.exact},
                {"contains", answer.score.contains}};
  };
  line["prompt"] = answered.prompt;
  line["expected"] = answered.expected;
  line["base"].update(answer(answered.base));
  if (answered.adapter) line["adapter"].update(answer(*answered.adapter));
}

void write_samples(const std::string& path, const train::Evaluation& evaluation) {
  std::string lines;
  for (const train::EvaluatedSample& sample : evaluation.samples) {
    const auto tokens = static_cast<double>(sample.label_tokens);
    const auto scores = [&](const train::SampleScore& score) {
      return Json{{"loss", score.loss_sum / tokens}, {"correct_tokens", score.correct}};
    };
    Json line{{"line", sample.line},
              {"tokens", sample.tokens},
              {"label_tokens", sample.label_tokens},
              {"base", scores(sample.base)}};
    if (sample.adapter) line["adapter"] = scores(*sample.adapter);
    if (sample.answered) add_answer(*sample.answered, line);
    lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  io::write_file_atomically(path, lines);
}

// A folder means its held-out file: evaluating on what was trained on should be asked for by name.
std::string data_file(const std::string& path) {
  return std::filesystem::is_directory(path) ? data::find_evaluation_file(path) : path;
}

// With what the command asks for beside its config's own flags.
train::TrainConfig config_of(const EvaluateArguments& options) {
  train::TrainConfig config = options.config;
  config.train_file = data_file(config.train_file);
  if (options.pairs) config.preference.objective = train::ObjectiveKind::kDpo;
  if (options.share_prefixes != "auto") config.share_prefixes = options.share_prefixes == "true";
  if (!options.adapter.empty()) config.new_tokens = data::tokens_of_adapter(config.base_model, options.adapter);
  return config;
}

train::EvaluateOptions evaluate_options(const EvaluateArguments& options, const train::TrainConfig& config,
                                        const data::Tokenizer& tokenizer, torch::Device device) {
  train::EvaluateOptions made{.device = device,
                              .limit = options.limit,
                              .skip_bad_samples = config.skip_bad_samples,
                              .share_prefixes = config.share_prefixes};
  if (options.generate)
    made.answers = train::AnswerOptions{
        .limits = {.max_new_tokens = options.max_new_tokens,
                   .stop_ids = generate::read_settings(config.base_model, tokenizer, config.chat_template).stop_ids},
        .ignore_case = options.ignore_case};
  if (isatty(STDERR_FILENO) != 0)
    made.on_sample = [](std::size_t done, std::size_t total) {
      std::fprintf(stderr, "\r%zu / %zu%s", done, total, done == total ? "\n" : "");
    };
  return made;
}

void print_json(const Json& summary) {
  std::printf("%s\n", summary.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void evaluate_pairs(const EvaluateArguments& options, const data::Dataset& data,
                    const train::PairEvaluation& evaluation) {
  for (const std::string& message : evaluation.bad) std::fprintf(stderr, "left out: %s\n", message.c_str());
  if (evaluation.pairs.empty()) throw Error(data.name(), ": no pair is left to evaluate");
  if (!options.per_sample.empty()) write_pairs(options.per_sample, evaluation);
  const Json summary =
      pairs_json(evaluation, !options.adapter.empty(), data.report().num_too_long + data.report().num_bad);
  if (options.json)
    print_json(summary);
  else
    print_pairs(summary);
}

void evaluate(const EvaluateArguments& options) {
  if (options.threads > 0) at::set_num_threads(options.threads);
  const train::TrainConfig config = config_of(options);
  const torch::Device device = train::choose_device(config.device);
  const train::BatchPlan batches(config, gemma4::read_model_config(train::model_files(config)));
  const gemma4::LoadedModel loaded = gemma4::load_model(
      train::model_files(config),
      {config.dtype == "float32" ? torch::kFloat : torch::kBFloat16,
       device,
       {.storage = quant::parse_storage(config.storage), .quantize_embeddings = config.quantize_embeddings}});
  print_warnings(loaded.warnings);
  gemma4::Model model = loaded.model;
  if (config.quantize_embeddings) check_embeddings_in_int8(model, config.base_model);
  const bool adapted = !options.adapter.empty();
  lora::Selection selection;
  if (adapted) {
    lora::LoadedAdapter adapter = train::use_adapter(model, options.adapter);
    print_warnings(adapter.notes);
    selection = std::move(adapter.selection);
    if (config.quantize_embeddings) warn_of_whole_head(model, options.adapter);
  }
  const data::Dataset& data = batches.train_data();
  if (options.pairs)
    return evaluate_pairs(options, data,
                          train::evaluate_pairs(model, adapted ? &selection : nullptr, data,
                                                evaluate_options(options, config, data.tokenizer(), device)));
  const train::Evaluation evaluation = train::evaluate(model, adapted ? &selection : nullptr, data,
                                                       evaluate_options(options, config, data.tokenizer(), device));
  for (const std::string& message : evaluation.bad) std::fprintf(stderr, "left out: %s\n", message.c_str());
  if (evaluation.samples.empty()) throw Error(config.train_file, ": no sample is left to evaluate");
  if (!options.per_sample.empty()) write_samples(options.per_sample, evaluation);
  const Json summary = summary_json(evaluation, options, data.report());
  if (options.json)
    print_json(summary);
  else
    print(summary);
}

void add_data_options(CLI::App& command, train::TrainConfig& config) {
  command.add_option("--media-root", config.media_root, "of media paths (default: the folder of the data)");
  command.add_option("--max-seq-length", config.max_seq_length, "longer samples are cut, or left out as in training")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command.add_option("--max-soft-tokens", config.max_soft_tokens, "of an image: 70, 140, 280, 560 or 1120");
  command.add_option("--video-frames", config.video.num_frames, "of each video: 32");
  command.add_option("--video-fps", config.video.fps, "frames of each second of a video, in place of that");
  command.add_option("--video-soft-tokens", config.video.soft_tokens, "budget of a frame: 70, 140, 280, 560 or 1120");
  command.add_option("--chat-template", config.chat_template, "file that renders chats (default: the checkpoint's)");
  command.add_option("--chat-format", config.chat_format, "auto: by the chat template, or without one as the model is")
      ->check(CLI::IsMember({"auto", "edge", "large", "gemma3"}))
      ->capture_default_str();
  command.add_flag("--train-on-inputs", config.train_on_inputs, "score the prompts too");
  command.add_flag("--mask-history", config.mask_history, "score the last assistant turn only");
  command.add_flag("--skip-bad-samples", config.skip_bad_samples, "leave bad lines out instead of stopping");
}

}  // namespace

void add_evaluate(CLI::App& app, int&) {
  auto options = std::make_shared<EvaluateArguments>();
  train::TrainConfig& config = options->config;
  CLI::App* command = app.add_subcommand("evaluate", "Loss, token accuracy and answers, of the base and an adapter");
  command->add_option("--model", config.base_model, "checkpoint folder or GGUF file")->required();
  add_mmproj_option(*command, config.mmproj);
  command
      ->add_option("--data", config.train_file, "JSONL, JSON or CSV file, or a folder with valid.jsonl or test.jsonl")
      ->required();
  command->add_option("--adapter", options->adapter, "PEFT adapter folder, compared with the base in the same run");
  command->add_option("--per-sample", options->per_sample, "JSONL file to write, one line a sample");
  command->add_option("--limit", options->limit, "only so many samples from the start");
  CLI::Option* generate =
      command->add_flag("--generate", options->generate, "let the models answer too: exact match and contains");
  command->add_option("--max-new-tokens", options->max_new_tokens, "of an answer")
      ->needs(generate)
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30))
      ->capture_default_str();
  command->add_flag("--pairs", options->pairs, "samples have a chosen and a rejected answer: which is the likelier?")
      ->excludes(generate);
  command->add_flag("--ignore-case", options->ignore_case, "A to Z as a to z where answers are compared")
      ->needs(generate);
  add_data_options(*command, config);
  command->add_option("--dtype", config.dtype, "of the arithmetic")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command->add_option("--storage", config.storage, "of the frozen weights; codes in a checkpoint stay as they are")
      ->check(CLI::IsMember({"dense", "nf4", "int8"}))
      ->capture_default_str();
  add_embeddings_option(*command, config.quantize_embeddings);
  command->add_option("--device", config.device, "cpu, cuda, cuda:N or auto")->capture_default_str();
  command->add_option("--threads", options->threads, "0: as many as there are cores")->check(CLI::Range(0, 4096));
  command
      ->add_option("--share-prefixes,--share_prefixes", options->share_prefixes,
                   "compute once what samples begin alike by; auto: where it spares a tenth of the tokens")
      ->check(CLI::IsMember({"auto", "true", "false"}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "as JSON");
  command->callback([options] { evaluate(*options); });
}

}  // namespace bezel::cli
