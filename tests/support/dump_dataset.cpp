// dump_dataset FILE TOKENIZER MAX_SOFT_TOKENS
// Prints every sample of a data set as JSON. For the comparison with transformers' processor and templates. A tokenizer
// without the placeholders of media is one of Gemma 3.
#include <exception>
#include <iostream>
#include <string>

#include "bezel/data/dataset.h"
#include "bezel/io/json.h"

namespace {

int run(const std::string& file, const std::string& tokenizer_path, std::int64_t max_soft_tokens) {
  const auto tokenizer =
      std::make_shared<const bezel::data::Tokenizer>(bezel::data::Tokenizer::from_file(tokenizer_path));
  bezel::data::DatasetOptions options;
  options.file = file;
  options.max_seq_length = 0;
  options.media.image.max_soft_tokens = max_soft_tokens;
  if (const auto image = tokenizer->token_id("<|image|>")) {
    options.ids = {{{*image, tokenizer->token_id("<|audio|>").value(), tokenizer->token_id("<|video|>").value()}}};
  } else {
    options.allowed = {};
    options.sample.chat.format = bezel::data::ChatFormat::kGemma3;
  }
  const bezel::data::Dataset dataset(options, tokenizer);
  for (std::size_t i = 0; i < dataset.size(); ++i) {
    const auto sample = dataset.load(i);
    const bezel::io::Json row = {{"text", dataset.load_text(i).text},
                                 {"planned_tokens", dataset.num_tokens(i)},
                                 {"input_ids", sample.input_ids},
                                 {"labels", sample.labels},
                                 {"mm_token_type_ids", sample.token_types}};
    std::cout << row.dump() << '\n';
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    return run(argv[1], argv[2], std::stoll(argv[3]));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
