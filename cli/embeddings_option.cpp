#include "cli/embeddings_option.h"

#include <cstdio>

#include "bezel/error.h"

namespace bezel::cli {

void check_embeddings_in_int8(const gemma4::Model& model, const std::string& path) {
  const std::string found = model->model->language_model->embed_tokens->weight->storage();
  if (found != "int8")
    throw Error(ErrorKind::kConfig, "--quantize-embeddings int8: ", path, " has its token embeddings in ", found,
                ", which stay as they are; leave it out");
  if (!model->config().text.tie_word_embeddings)
    std::fprintf(stderr, "note: %s has a head of its own, which --quantize-embeddings leaves in %s\n", path.c_str(),
                 model->frozen_head()->storage().c_str());
}

void warn_of_whole_head(const gemma4::Model& model, const std::string& adapter) {
  const auto& table = model->trained_head->table();
  if (table && table->whole.defined())
    std::fprintf(stderr, "note: %s has a head that was trained whole, which --quantize-embeddings leaves in float32\n",
                 adapter.c_str());
}

}  // namespace bezel::cli
