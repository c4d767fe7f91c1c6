"""Inputs from which fuzzing starts, and which the tests replay: FOLDER/<target>/<name>, a few hundred bytes each.

    make_seeds.py FOLDER

Needs Pillow, soundfile and numpy. tests/fuzz/found holds inputs that a reader once failed on.
"""
import gzip
import io
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def safetensors(header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    yield "empty", safetensors({})
    yield "two", safetensors({"__metadata__": {"format": "pt"}, "a": tensor("F32", [2, 1], 0, 8), "b": tensor("BF16", [], 8, 10)}, bytes(10))
    every = ["BOOL", "U8", "I8", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64"]
    yield "every_type", safetensors({name: tensor(name, [0, 7], 0, 0) for name in every})
    yield "hole", safetensors({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 2, 3)}, bytes(3))
    yield "overlap", safetensors({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, bytes(3))
    yield "overflow", safetensors({"a": tensor("F64", [2**62, 4, 0], 0, 0)})
    yield "no_counts", safetensors({"a": tensor("U8", [-1, 2.0, 1e3, 2**64], 0, -1)})
    yield "twice", safetensors(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "long_header", safetensors({}, size=2**63)


def json_seeds():
    yield "config", json.dumps({"model_type": "gemma4", "text_config": {"head_dim": 256, "rope": 1e6, "x": None}, "list": [1, -2, 3.5, True]}).encode()
    yield "numbers", b"[0,-0,1e400,1e-400,18446744073709551616,-9223372036854775809,9223372036854775808,0.1E+2]"
    yield "texts", '["\\u0000","\\ud83d\\ude00","\\ud83d","\\"\\\\\\/\\b\\f\\n\\r\\t","é😀"]'.encode()
    yield "twice", b'{"a":1,"a":2}'
    yield "deep", b"[" * 70 + b"]" * 70
    yield "many", json.dumps({str(i): i for i in range(12)}).encode()
    yield "utf16", '{"a": 1}'.encode("utf-16")
    yield "bom", b"\xef\xbb\xbf{}"


def small_tokenizer(**change):
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", "a", "b", "e", "ab", "abe", "<0x41>", "<0xE2>"]
    added = [{"id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": i == 3, "special": i < 3}
             for i in range(4)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                               "pair": [], "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}},
            "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                         {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": {word: i for i, word in enumerate(words)}, "merges": [["a", "b"], ["ab", "e"]], **change}}


def tokenizer_seeds():
    def both(value, text):
        return json.dumps(value, ensure_ascii=False).encode() + b"\0" + text.encode()

    yield "small", both(small_tokenizer(), "a abe <eos> A é <bos>ab")
    yield "merges_as_text", both(small_tokenizer(merges=["a b", "ab e"]), "abe abe")
    yield "no_fallback", both(small_tokenizer(byte_fallback=False, fuse_unk=False), "éé a")
    yield "bad_ids", both(small_tokenizer(vocab={"a": -1, "b": 0, "c": 2**40}), "a")
    yield "text", b"\0" + "Hello<|turn>user\nnaïve 日本語 😀   <image|>\t<turn|>".encode()
    yield "run", b"\0" + b"a" * 200 + b" " * 50
    yield "no_utf8", b"\0abc\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80"


def jsonl_seeds():
    for path in sorted((ROOT / "examples" / "data").glob("*.jsonl")):
        yield path.stem, path.read_bytes()
    yield "layout", b'\xef\xbb\xbf{"text":"a"}\r\n\r\n\n{"text":"b"}'
    yield "array", b'[\n  {"text": "a]"},\n  {"text": "b"}\n]\n'
    yield "objects", b'{\n  "messages": [\n    {"role": "user", "content": "a"}\n  ]\n}\n{\n  "text": "b"\n}\n'
    yield "gzip", gzip.compress(b'{"text":"a"}\n', mtime=0) + gzip.compress(b'{"text":"b"}\n', mtime=0)
    pixel = "iVBORw0KGgo="
    yield "data_uris", json.dumps({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + pixel}},
        {"type": "input_audio", "input_audio": {"data": pixel, "format": "wav"}}]}, {"role": "assistant", "content": "b"}]}).encode()
    call = {"type": "function", "function": {"name": "f", "arguments": "{\"a\": [1, {\"b\": null}]}"}}
    yield "calls", json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]},
                                            {"role": "tool", "name": "f", "content": "{}"}, {"role": "assistant", "content": "c"}],
                               "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {
                                   "type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "enum": ["x"]}}}, "required": ["a"]}}}]}).encode()
    yield "wrong_types", b'{"messages":{"role":1}}\n{"text":["a"]}\n{"prompt":1,"completion":null}\n{"conversations":[1]}\n[]\n3\n"a"'


def picture(mode, form, size=(9, 7), **options):
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.putpixel((1, 2), (250, 3, 90))
    buffer = io.BytesIO()
    image = image.convert(mode) if mode != "I;16" else Image.fromarray((np.arange(size[0] * size[1]) * 900).astype(np.uint16).reshape(size[1], size[0]))
    image.save(buffer, form, **options)
    return buffer.getvalue()


def image_seeds():
    for mode in ("L", "RGB", "RGBA", "P", "LA", "1", "I;16"):
        yield "png_" + mode.replace(";", ""), picture(mode, "PNG")
    yield "png_transparent", picture("P", "PNG", transparency=3)
    for mode in ("L", "RGB", "CMYK"):
        yield "jpeg_" + mode, picture(mode, "JPEG")
    yield "jpeg_progressive", picture("RGB", "JPEG", progressive=True, size=(33, 17))
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "jpeg_turned", picture("RGB", "JPEG", exif=exif)
    yield "png_turned", picture("RGB", "PNG", exif=exif)
    yield "webp", picture("RGB", "WEBP")
    yield "webp_lossless", picture("RGBA", "WEBP", lossless=True, exif=exif)
    frames = [Image.new("RGB", (8, 8), (i * 90, 0, 0)) for i in range(2)]
    yield "gif", picture("P", "GIF", interlace=0)
    yield "gif_interlaced", picture("P", "GIF", interlace=1, transparency=3)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield "bmp_" + mode, picture(mode, "BMP")
    yield "gif_gray", picture("L", "GIF")
    for form in ("WEBP", "PNG", "GIF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
        yield "moving_" + form.lower(), buffer.getvalue()


def tiff_seeds():
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"):
        yield mode.replace(";", ""), picture(mode, "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield compression, picture("RGB", "TIFF", compression=compression)
    yield "group4", picture("1", "TIFF", compression="group4")
    yield "turned", picture("RGB", "TIFF", tiffinfo={274: 6})
    yield "large_offsets", picture("RGB", "TIFF", big_tiff=True)


def csv_seeds():
    yield "commas", b'instruction,input,output\nq,,a\n"a ""quoted"" one","two\nlines",b\n'
    yield "tabs", b"path\tsentence\r\na.mp3\thello\r\n"
    yield "semicolons", "text\n\nnaïve; text\n".encode()
    yield "lists", b'messages,images\n"[{""role"":""user""}]","[""a.png""]"\n'
    yield "open", b'a,b\n"c,d\n'


def audio_seeds():
    tone = np.array([math.sin(i / 5) for i in range(800)], dtype=np.float32) / 2
    for name, form, subtype, rate, channels in (("wav", "WAV", "PCM_16", 16000, 1), ("wav_float", "WAV", "FLOAT", 8000, 2),
                                               ("wav_alaw", "WAV", "ALAW", 8000, 1), ("wav_adpcm", "WAV", "IMA_ADPCM", 8000, 1),
                                               ("wav_ms_adpcm", "WAV", "MS_ADPCM", 8000, 1), ("wavex", "WAVEX", "PCM_24", 48000, 3),
                                               ("rf64", "RF64", "PCM_16", 16000, 1), ("w64", "W64", "PCM_U8", 16000, 1),
                                               ("flac", "FLAC", "PCM_16", 44100, 2), ("ogg", "OGG", "VORBIS", 16000, 1),
                                               ("opus", "OGG", "OPUS", 16000, 1), ("mp3", "MP3", "MPEG_LAYER_III", 16000, 1),
                                               ("aiff", "AIFF", "PCM_16", 22050, 1), ("au", "AU", "PCM_16", 8000, 1), ("caf", "CAF", "PCM_16", 16000, 1)):
        buffer = io.BytesIO()
        soundfile.write(buffer, np.stack([tone[:400 if form != "MP3" else 800]] * channels, axis=1), rate, format=form, subtype=subtype)
        yield name, buffer.getvalue()
    yield "claims_4_gib", b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data\xff\xff\xff\xff" + bytes(56)


def config_seeds():
    yield "example", (ROOT / "examples" / "train_e2b.yaml").read_bytes()
    yield "demo", (ROOT / "demo" / "config.yaml").read_bytes()
    yield "most_keys", b"""model: m
datasets_file: x
dtype: float32
load_in_4bit: true
lora_towers: [vision, audio]
lora_target: 'q_proj, v_proj'
exclude_modules: [k_proj]
rank_pattern: {q_proj: 4, '.*v_proj': 2}
alpha_pattern: {q_proj: 1.5}
lr: 1e-4
lr_scheduler_type: linear
warmup_steps: 3
max_steps: ~
seed: 7
report_to: [jsonl]
quantize_skip: [lm_head]
"""
    yield "quoted", b"base_model: \"a\\u0000b\\n\"\ntrain_file: 'it''s'\noutput_dir: |\n  text\n  more\nseed: !!int 3\n"
    yield "flow", b"{base_model: a, train_file: b, output_dir: c, lora_r: 3, target_modules: [a, [b]]}"
    yield "aliases", b"a: &a [x]\nb: [*a, *a]\n<<: *a\n"
    yield "documents", b"%YAML 1.2\n---\nseed: 1\n...\n---\nseed: 2\n"
    yield "crlf", b"seed: 1\r\nlora_r: 2\r\n\tlora_alpha: 3\r\n"


def adapter_config_seeds():
    usual = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "bias": "none", "target_modules": ["q_proj", "v_proj"],
             "base_model_name_or_path": "google/gemma-4-E2B-it", "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    for name, change in (("usual", {}), ("regex", {"target_modules": r".*\.layers\.(1|17)\.(self_attn\.)?[qkv]_proj(?!x)"}),
                         ("all_linear", {"target_modules": "all-linear"}), ("patterns", {"rank_pattern": {"q_proj": 4, "^.*v_proj$": 2}, "alpha_pattern": {"(?:k|q)_proj": 3.5}}),
                         ("exclude", {"exclude_modules": r"model\.(?P<tower>vision_tower).*"}), ("slow", {"target_modules": "(.*)*(.*)*(a|a)*x"}),
                         ("dora", {"use_dora": True}), ("start", {"init_lora_weights": "pissa"}), ("bias", {"bias": "all"}),
                         ("counts", {"r": -1, "lora_alpha": 1e400}), ("repeats", {"target_modules": "(((a{1,9}){1,9}){1,9}){1,9}"})):
        yield name, json.dumps({**usual, **change}).encode()


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_value(kind, value):
    if kind == 8:
        return gguf_text(value)
    return struct.pack("<" + "BbHhIif?  Qqd"[kind], value)


def gguf(keys, tensors=(), version=3, alignment=32):
    """keys: name, kind, value, a list being (kind of its elements, values). tensors: name, dims as in the file, type, bytes."""
    head, data = b"", b""
    for name, kind, value in keys:
        head += gguf_text(name) + struct.pack("<I", kind)
        if kind == 9:
            head += struct.pack("<IQ", value[0], len(value[1])) + b"".join(gguf_value(value[0], v) for v in value[1])
        else:
            head += gguf_value(kind, value)
    for name, dims, kind, content in tensors:
        head += gguf_text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % alignment)
    file = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(keys)) + head
    return file + (bytes(-len(file) % alignment) + data if tensors else b"")


def gguf_seeds():
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", "a", "b", "▁a", "▁b", "<0x41>", "<0xC3>", "<0xA9>"]
    types = [3, 3, 3, 2, 1, 1, 1, 1, 1, 6, 6, 6]
    vocabulary = [("tokenizer.ggml.tokens", 9, (8, words)), ("tokenizer.ggml.token_type", 9, (5, types)),
                  ("tokenizer.ggml.bos_token_id", 4, 2), ("tokenizer.ggml.eos_token_id", 4, 1), ("tokenizer.ggml.unknown_token_id", 4, 3),
                  ("tokenizer.ggml.padding_token_id", 4, 0), ("tokenizer.ggml.add_bos_token", 7, True)]
    yield "empty", gguf([])
    yield "kinds", gguf([(f"k{kind}", kind, "text" if kind == 8 else 1) for kind in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12)], version=2)
    yield "lists", gguf([(f"k{kind}", 9, (kind, ["a", ""] if kind == 8 else [0, 1, 1])) for kind in (0, 1, 4, 5, 6, 7, 8, 10, 12)])
    yield "tensors", gguf([("general.architecture", 8, "gemma3")], [("a", [3, 2], 0, bytes(24)), ("b", [32], 8, bytes(34)), ("c", [256, 2], 12, bytes(288))])
    yield "aligned", gguf([("general.alignment", 4, 64)], [("a", [5], 30, bytes(10)), ("b", [1], 1, bytes(2))], alignment=64)
    yield "scores", gguf([("tokenizer.ggml.model", 8, "llama"), ("tokenizer.ggml.scores", 9, (6, [-float(i) for i in range(len(words))])), *vocabulary])
    yield "merges", gguf([("tokenizer.ggml.model", 8, "gemma4"), ("tokenizer.ggml.merges", 9, (8, ["▁ a", "▁ b"])), *vocabulary])
    yield "huge", gguf([], [("a", [2**62, 4], 0, b"")])
    yield "twice", gguf([("k", 4, 1), ("k", 4, 2)])


def varints(*values):
    out = bytearray()
    for value in values:
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


def ocdbt_seeds():
    """The length of the manifest, the manifest and a node, each without magic, length and checksum."""
    table = varints(1, 1, 0) + b"n"

    def store(node, height=0, num_keys=2):
        version = varints(1, 1) + bytes([height]) + varints(0, 0, len(node) + 16, num_keys, 0, 0) + bytes(8) + varints(0)
        manifest = varints(0, 0) + bytes(16) + varints(0, 1024, 100) + b"\4" + varints(0) + table + version
        return bytes([len(manifest)]) + manifest + node

    leaf = varints(0, 0, 0) + table + varints(2, 2, 3, 1) + b"a/xy" + varints(2, 3, 0, 1, 0, 5) + b"in"
    yield "leaf", store(leaf)
    yield "empty", store(varints(0, 0, 0, 0, 0), num_keys=0)
    yield "interior", store(varints(0, 0, 1) + table + varints(1, 1, 0) + b"a" + varints(0, 0, 33, 2, 0, 0), height=1)
    yield "leads_out", store(varints(0, 0, 0) + varints(1, 4, 0) + b"../n" + varints(0))
    yield "long_list", store(varints(0, 0, 0, 2**60))


def jinja_seeds():
    yield "tags", "a\n  {%- if x == 'é\\n' -%}\n {{ x.y[1_0] | f(0x1f, 1.5e-3) ~ {'a': [1]} }}\r\n{%+ endif +%}\n{# c #}\n".encode()
    yield "raw", b"{%- raw -%} {{ x }} {% x %}\n{%- endraw -%} b"
    yield "escapes", "{{ '\\x41\\u00e9\\101\\U0001f600\\q\\é\\😀' }}\u3000{{- 1 }}".encode()
    yield "open_comment", b"{# x"
    yield "turns", (b"{% for m in messages %}<{{ m.role }}>{% if m['content'] is string %}{{ m.content | trim }}{% else %}{% for p in m.content %}"
                    b"{{ p.text | upper }}{% endfor %}{% endif %}{{ ',' if not loop.last }}{% else %}none{% endfor %}")
    yield "macro", (b"{% macro f(a, b=[1]) %}{% if a is mapping %}{% for k, v in a | dictsort %}{{ k }}:{{ f(v) }}{% endfor %}{% else %}{{ a | tojson(indent=2) }}"
                    b"{{ varargs }}{{ caller() }}{% endif %}{% endmacro %}{% call f(messages[1], *[1]) %}x{% endcall %}{{ f(messages[1].tool_calls[0]) }}")
    yield "namespace", (b"{% set n = namespace(x='', y=[]) %}{% for c in messages[0].content if c != ' ' %}{% set n.x = n.x + c %}{% set n.y = n.y + [n.x] %}"
                        b"{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}{{ n.x[::-1] }}{{ n.y | map('length') | list }}{{ n.y[:-1] }}")
    yield "blocks", (b"{% set x | upper %}a{% endset %}{% filter indent(2, true) %}b\nc{% endfilter %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}"
                     b"{% generation %}{{ messages[2].content }}{% endgeneration %}{% for x in [1, [2]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}")
    yield "texts", (b"{{ 'a,b'.split(',') | join('-') }}{{ '%5.1f|%-4d' % (1.5, 2) }}{{ '{} {x:>4}'.format(1, x=2) }}{{ 'abc' | replace('b', 'xx') | center(9) }}"
                    b"{{ '<a>' + ('<b>' | safe) }}{{ 7 // -2 }}{{ 2 ** -1 }}{{ n | default(1, true) | float | round(1) }}{{ strftime_now('%d %b') }}")
    yield "lists", (b"{{ [3, 1, 2] | sort(reverse=true) | batch(2, 0) | list }}{{ messages | selectattr('role', 'equalto', 'tool') | map(attribute='content') | first }}"
                    b"{{ messages | groupby('role') }}{{ dict(a=1, b=2).items() | list | unique | list }}{{ range(9)[2:7:2] | sum }}{{ 1 < 2 < 3 and 1 not in [2] }}")
    yield "brackets", b"{{ ([{" * 50
    yield "percents", b"{%" * 200


def sentencepiece_seeds():
    def piece(text, score=None, kind=None):
        body = b"\x0a" + varints(len(text)) + text + (b"" if score is None else b"\x15" + struct.pack("<f", score)) + (b"" if kind is None else b"\x18" + varints(kind))
        return b"\x0a" + varints(len(body)) + body

    yield "words", piece(b"<pad>", 0, 3) + piece("▁a".encode(), -1.5) + piece(b"<0x0A>", -2, 6) + b"\x12\x02\x08\x01"
    yield "other_fields", piece(b"a") + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x28\x7f"
    yield "past_the_end", b"\x0a\x7fabc"
    yield "long_number", b"\x0a" + b"\xff" * 12
    yield "no_number", piece(b"a", float("nan"))


def video_seeds():
    clips = ROOT / "tests" / "data" / "video"
    yield "mp4", (clips / "short.mp4").read_bytes()
    yield "gif", (clips / "c.gif").read_bytes()[:6000]
    yield "playlist", b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6.0,\n/etc/hostname\n#EXT-X-ENDLIST\n"


SEEDS = {"safetensors": safetensors_seeds, "json": json_seeds, "tokenizer": tokenizer_seeds, "jsonl": jsonl_seeds, "image": image_seeds,
         "tiff": tiff_seeds, "csv": csv_seeds, "audio": audio_seeds, "config": config_seeds, "adapter_config": adapter_config_seeds, "gguf": gguf_seeds, "ocdbt": ocdbt_seeds,
         "jinja": jinja_seeds, "sentencepiece": sentencepiece_seeds, "video": video_seeds}


def main():
    for target, seeds in SEEDS.items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
