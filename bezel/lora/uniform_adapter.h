#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "bezel/lora/adapter_io.h"
#include "bezel/lora/convert.h"

namespace bezel::lora {

/// A PEFT adapter in which every layer has the same rank and the same scale, for tools that know one of each.
struct UniformAdapter {
  LoraConfig config;  ///< `rank` and `alpha` are those of all layers; no patterns, no rsLoRA
  std::string base_model;
  std::string architecture, image_attention;  ///< as in AdapterConfig
  std::map<std::string, StoredPair> pairs;    ///< by canonical module; A [rank, in] and B [out, rank], float32
};

/// Throws Error naming the key of adapter_config.json (`path`) that trains a table beside LoRA, for which other tools
/// have no form.
void refuse_tables(const LoraConfig& config, const std::string& path);

/// Reads an adapter folder. Layers of a lower rank are padded with rows and columns of zeros, and where a layer's scale
/// differs B is multiplied by the ratio: the product scale * B A of each layer stays what it was, within one rounding
/// of B. Throws Error for an adapter that read_adapter_config or read_pairs refuses, for pairs that do not fit each
/// other, for tables that are trained beside LoRA, and for NaN and Inf.
UniformAdapter read_uniform_adapter(const std::string& folder);

enum class Server {
  kVllm,
  kSglang,  ///< takes q, k, v, o, gate, up and down of the decoder alone, by the number in a name, whatever tower it is
            ///< of
};

/// Writes a PEFT adapter folder with the names of Gemma4ForConditionalGeneration and one rank and scale for all layers,
/// which is what vLLM and SGLang read: they know no rank_pattern and no alpha_pattern. Throws Error as
/// read_uniform_adapter, and for SGLang naming a layer with LoRA on some but not all of what it multiplies at once: q
/// and v, gate and up. Reference: sglang 0.5.23, srt/lora/lora.py and models/gemma4_mm.py.
Conversion convert_adapter_for_servers(const std::string& folder, const std::string& output,
                                       Server server = Server::kVllm);

}  // namespace bezel::lora
