#pragma once

#include "bezel/data/tokenizer_json.h"
#include "bezel/io/gguf.h"

namespace bezel::data {

/// The tokenizer that a GGUF file's metadata holds: `llama` (SentencePiece with scores, as Gemma 3's) or `gemma4`
/// (words and merges). Of the first it makes the merges that Hugging Face's conversion writes into tokenizer.json, so
/// that both give the same ids. A file says less of added tokens than tokenizer.json does: control and user-defined
/// words are cut out of text first, others are not. Throws Error naming the key for lists that do not fit each other,
/// repeated or damaged words, ids beyond the vocabulary, and tokenizers of other kinds.
TokenizerSpec read_gguf_tokenizer(const io::GgufFile& file);

}  // namespace bezel::data
