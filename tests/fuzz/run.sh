#!/usr/bin/env bash
# tests/fuzz/run.sh BUILD SECONDS [TARGET...]: fuzzes each target for so long, one after the other, and prints which share
# of its parser's lines the inputs reached. Stops at a finding: its input then lies in BUILD/findings; once it is mended,
# it belongs into tests/fuzz/found/TARGET, where the tests replay it.
set -euo pipefail
cd "$(dirname "$0")/../.."
build="$1" seconds="$2"
shift 2

# The sources whose lines count.
declare -A sources=(
  [safetensors]="io/safetensors.cpp io/mapped_file.cpp"
  [json]="io/json.cpp"
  [tokenizer]="data/tokenizer.cpp data/tokenizer_json.cpp data/tokenizer_sax.cpp data/bpe.cpp data/added_tokens.cpp data/vocabulary.cpp data/replace.cpp data/utf8.cpp"
  [jinja]="jinja/lexer.cpp jinja/text.cpp"
  [jsonl]="data/jsonl.cpp data/sample_text.cpp data/sample_media.cpp data/sample_tokens.cpp data/conversations.cpp data/chat_template.cpp data/chat_tools.cpp"
  [image]="data/image_decode.cpp data/jpeg_decode.cpp data/png_decode.cpp data/png_chunks.cpp data/webp_decode.cpp data/exif.cpp"
  [csv]="data/csv.cpp"
  [tiff]="data/tiff_decode.cpp data/tiff_pixels.cpp"
  [video]="data/video_decode.cpp data/av_input.cpp data/av_rgb.cpp data/av_truncation.cpp"
  [audio]="data/audio_decode.cpp data/audio_probe.cpp"
  [config]="train/config.cpp train/config_yaml.cpp train/config_keys.cpp train/config_check.cpp"
  [gguf]="io/gguf.cpp io/gguf_value.cpp io/gguf_types.cpp data/tokenizer_gguf.cpp"
  [ocdbt]="io/ocdbt.cpp io/ocdbt_block.cpp io/ocdbt_value.cpp io/zstd_stream.cpp"
  [sentencepiece]="data/sentencepiece.cpp"
  [adapter_config]="lora/config.cpp lora/match.cpp io/pattern.cpp"
)
targets=("$@")
((${#targets[@]})) || targets=(safetensors json tokenizer jsonl csv image tiff audio config adapter_config gguf ocdbt jinja sentencepiece)
# A build without FFmpeg's headers has no such target.
if [[ $# -eq 0 && -x "$build/tests/fuzz/fuzz_video" ]]; then targets+=(video); fi

export LSAN_OPTIONS=suppressions=$PWD/tests/fuzz/leaks_of_others.txt:print_suppressions=0
.venv/bin/python3 tests/fuzz/make_seeds.py "$build/seeds"
for target in "${targets[@]}"; do
  program="$build/tests/fuzz/fuzz_$target" corpus="$build/corpus/$target" log="$build/$target.log"
  mkdir -p "$corpus" "$build/findings"
  dictionary=()
  [[ -f tests/fuzz/$target.dict ]] && dictionary=("-dict=tests/fuzz/$target.dict")
  inputs=("$corpus" "$build/seeds/$target")
  [[ -d tests/fuzz/found/$target ]] && inputs+=("tests/fuzz/found/$target")
  echo "== $target, $seconds s"
  # Decoders of other people print; what libFuzzer says has its own descriptor.
  if ! LLVM_PROFILE_FILE="$build/$target.profraw" "$program" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 \
    -close_fd_mask=3 -print_final_stats=1 -artifact_prefix="$build/findings/$target-" "${dictionary[@]}" "${inputs[@]}" >"$log" 2>&1; then
    tail -40 "$log"
    echo "$target: a finding; see $log and $build/findings"
    exit 1
  fi
  grep -E 'number_of_executed_units|peak_rss_mb' "$log"
  llvm-profdata merge -sparse "$build/$target.profraw" -o "$build/$target.profdata"
  # shellcheck disable=SC2086
  llvm-cov report "$program" -instr-profile="$build/$target.profdata" $(printf "bezel/%s " ${sources[$target]}) |
    awk 'NR == 1 || /cpp|TOTAL/ { printf "%-36s %12s %12s %10s\n", $1, NR == 1 ? "lines" : $8, NR == 1 ? "not reached" : $9, NR == 1 ? "reached" : $10 }'
done
