#pragma once

#include <string>

namespace bezel::data {

/// What Ollama needs beside the GGUF file of a language model, as the text of a Modelfile: the file, the chat template
/// in Go's form, what ends an answer, and the sampling settings that the file names. Images stay with llama.cpp, whose
/// mmproj file Ollama does not take.
std::string ollama_modelfile(const std::string& gguf_path);

}  // namespace bezel::data
