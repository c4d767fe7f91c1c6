#pragma once

#include <cstdint>
#include <string>

#include "bezel/gemma4/config.h"
#include "bezel/io/gguf_writer.h"

namespace bezel::data {

/// Sets the keys of a GGUF file for the tokenizer in a checkpoint folder, as llama.cpp's converter writes them: words
/// with their kinds, padded to `num_rows` (the rows of the embeddings), merges, or of Gemma 3 the scores that are in
/// tokenizer.model, the ids of special tokens and the chat template. Throws Error when a file is missing or has more
/// words than rows, and as parse_tokenizer and parse_sentencepiece do. References: llama.cpp's conversion/gemma.py and
/// base.py, gguf's LlamaHfVocab and SpecialVocab.
void set_gguf_tokenizer(const std::string& folder, gemma4::Family family, std::int64_t num_rows, io::NewGgufKeys& keys);

}  // namespace bezel::data
