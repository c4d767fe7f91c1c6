#pragma once

#include <map>
#include <string>
#include <vector>

#include <torch/types.h>

#include "bezel/io/checkpoint.h"
#include "bezel/io/gguf_model.h"
#include "bezel/quant/stored.h"

namespace bezel::gemma4 {

/// A tensor of a checkpoint folder or of a GGUF file.
struct SourceTensor {
  std::string stored;               ///< its name there
  std::vector<std::int64_t> shape;  ///< as a checkpoint has it
  bool taken = false;
  io::Checkpoint::Entry entry{};      ///< in a checkpoint folder
  io::GgufModel::Entry gguf_entry{};  ///< in a GGUF file
  /// Makes of what a GGUF file has what a checkpoint has, where that differs; null: the same.
  torch::Tensor (*form)(const torch::Tensor& tensor) = nullptr;

  bool is_packed() const { return gguf_entry.file && io::is_packed(gguf_entry.info->type); }
  const std::string& path() const { return gguf_entry.file ? gguf_entry.file->path() : entry.file->path(); }
  /// The tensor over the mapped file, or a copy in the form of a checkpoint; of a packed one its rows, as
  /// io::map_tensor gives them.
  torch::Tensor map() const;
  /// How it is stored, such as "BF16" or "Q4_K".
  std::string type_name() const;
  /// Bytes that it takes in the file.
  std::int64_t bytes() const;
  /// Lets its pages go from memory.
  void evict() const;
};

/// Where weights come from: looks tensors up by canonical name and remembers which were taken.
class Source {
 public:
  /// A checkpoint folder or a GGUF file with its towers. Throws Error when one tensor is there in two spellings, or a
  /// GGUF file has one that no Gemma has.
  explicit Source(const std::string& model, const std::string& mmproj = "");

  /// Uses the stored head as the missing embeddings, as transformers does where the two are tied.
  void tie_embeddings_to_head();

  SourceTensor* take(const std::string& canonical);
  /// The tensors that a checkpoint folder stores under `module` for its matrix; empty for a GGUF file.
  quant::StoredParts take_parts(const std::string& module);
  /// Canonical names of the tensors stored for the matrix of `module` where that is quantized; empty for a floating
  /// one.
  std::vector<std::string> names_of_codes(const std::string& module) const;
  /// What is wrong with the first tensor that is spelled as in no checkpoint of this model, or "".
  std::string foreign_name() const;

  const std::map<std::string, SourceTensor>& all() const { return tensors_; }
  std::vector<std::string> stored_names() const;
  const std::string& path() const { return path_; }
  bool is_gguf() const { return is_gguf_; }
  /// What says which shapes the tensors have.
  const char* config_name() const { return is_gguf_ ? "the metadata" : "config.json"; }

 private:
  void add(std::string canonical, SourceTensor tensor);

  std::string path_;
  bool is_gguf_;
  std::map<std::string, SourceTensor> tensors_;
};

}  // namespace bezel::gemma4
