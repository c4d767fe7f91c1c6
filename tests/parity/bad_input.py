"""Bad files as `bezel train` meets them, row by row of docs/FAULTS.md: one line that names what is wrong, the exit code of
its kind, memory within a bound, and an output folder that holds what it held before.

    bad_input.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEZEL = Path(sys.argv[1]) / "bezel"
MODEL = ROOT / "demo" / "model"
# What the command and LibTorch need before any file is read is some 110 MiB.
MAX_MIB = 1000
# A file of 1 GiB is read once, and hashed; all others take a fraction of a second.
MAX_CPU_S = 10
CONFIG, DATA = 2, 3


def chat(answer="A cup.", question="Hi", role="assistant", **more):
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": role, "content": answer, **more}]}) + "\n"


class Setting:
    """A folder with everything that a run of one step needs; each case spoils one thing in it."""

    def __init__(self, folder: Path):
        self.folder, self.model, self.out = folder, folder / "model", folder / "out"
        shutil.copytree(MODEL, self.model)
        self.write("train.jsonl", chat())
        self.write("config.yaml", f"base_model: {self.model}\ntrain_file: {folder}/train.jsonl\noutput_dir: {self.out}\n"
                                  "dtype: float32\nmax_steps: 1\nsave_steps: 0\nthreads: 1\n")
        self.write("out/adapter_model.safetensors", "of an earlier run")

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def add(self, name, content):
        self.write(name, (self.folder / name).read_bytes() + content.encode())

    def edit_json(self, name, change):
        value = json.loads((self.folder / name).read_text())
        change(value)
        self.write(name, json.dumps(value))

    def text_config(self, **values):
        self.edit_json("model/config.json", lambda config: config["text_config"].update(values))

    def image(self, path):
        self.write("train.jsonl", json.dumps({"text": "<|image|>a cat", "images": [path]}) + "\n")

    def resize(self, name, size):
        with open(self.folder / name, "r+b") as file:
            file.truncate(size)

    def sparse(self, name, begin, size):
        """A file that claims much and holds little."""
        self.write(name, begin)
        self.resize(name, size)

    def link(self, name, target):
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).symlink_to(target)

    def header(self, header, data=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.write("model/model.safetensors", struct.pack("<Q", len(text)) + text + data)

    def audio(self, content):
        self.write("a.wav", content)
        self.write("train.jsonl", json.dumps({"text": "<|audio|>hello", "audios": ["a.wav"]}) + "\n")

    def weight_map(self, value):
        (self.model / "model.safetensors").unlink()
        self.write("model/model.safetensors.index.json", json.dumps({"weight_map": value}))

    def fifo(self, name):
        (self.folder / name).unlink(missing_ok=True)
        os.mkfifo(self.folder / name)

    def link_weights_outside(self):
        shutil.move(self.model / "model.safetensors", self.folder / "outside.safetensors")
        (self.model / "model.safetensors").symlink_to("../outside.safetensors")

    def index(self, shard):
        (self.model / "model.safetensors").unlink()
        self.write("model/model.safetensors.index.json", json.dumps({"weight_map": {"a": shard}}))

    def write_nan(self, tensor, row):
        """Puts a NaN at the begin of a row of a bfloat16 matrix of the model."""
        with open(self.model / "model.safetensors", "r+b") as file:
            header_bytes = struct.unpack("<Q", file.read(8))[0]
            info = json.loads(file.read(header_bytes))[tensor]
            assert info["dtype"] == "BF16"
            file.seek(8 + header_bytes + info["data_offsets"][0] + 2 * row * info["shape"][1])
            file.write(b"\xc0\x7f")

    def run(self):
        """Exit code, lines of stderr, peak MiB."""
        with open(self.folder / "stderr", "w+") as stderr:
            process = subprocess.Popen([BEZEL, "train", self.folder / "config.yaml"], stdout=subprocess.DEVNULL, stderr=stderr)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_s = usage.ru_utime + usage.ru_stime
            return process.returncode, (self.folder / "stderr").read_text().splitlines(), usage.ru_maxrss / 1024


def png(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def wav(rate=16000, channels=1, kind=1, bits=16, data=b"\1\0" * 400, claimed=None):
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", kind, channels, rate, rate * block % 2**32, block % 2**16, bits)
    return b"RIFF\xff\xff\xff\x7fWAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data) if claimed is None else claimed) + data


def webp_canvas(side):
    """An animation whose canvas is large and whose frame is cut."""
    canvas = struct.pack("<I", 2) + (side - 1).to_bytes(3, "little") * 2
    chunks = b"VP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + b"ANMF" + struct.pack("<I", 16) + bytes(16)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def adapter_of(s: Setting, tensors, **config):
    """An adapter folder with these tensors: name -> (shape, bytes of float32)."""
    usual = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    s.write("adapter/adapter_config.json", json.dumps({**usual, **config}))
    header, data = {}, b""
    for name, (shape, content) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    s.write("adapter/adapter_model.safetensors", struct.pack("<Q", len(text)) + text + data)
    s.add("config.yaml", f"init_adapter: {s.folder}/adapter\n")


def bomb():
    rows = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(9)]
    return "".join(rows)


def spoil_adapter(s: Setting, more, **config):
    usual = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    s.write("adapter/adapter_config.json", json.dumps({**usual, **config}))
    s.write(f"adapter/{more}", b"\x80\x02")
    s.add("config.yaml", f"init_adapter: {s.folder}/adapter\n")


def first_word(tokenizer, word_id):
    vocab = tokenizer["model"]["vocab"]
    vocab[next(iter(vocab))] = word_id


Q_PROJ = "base_model.model.model.language_model.layers.0.self_attn.q_proj"

# Row, how to spoil the setting, exit code, what the message says.
CASES = [
    (1, lambda s: s.resize("model/model.safetensors", 7), DATA, ["model.safetensors: 7 bytes, too short"]),
    (1, lambda s: s.write("model/model.safetensors", b"\xff" * 8 + b"{}"), DATA, ["a header of 18446744073709551615 bytes"]),
    (1, lambda s: s.write("model/model.safetensors", ""), DATA, ["model.safetensors: 0 bytes, too short"]),
    (1, lambda s: s.header(b"x" * 8), DATA, ["does not start with '{'"]),
    (1, lambda s: s.sparse("model/model.safetensors", struct.pack("<Q", 99_000_000) + b"{", 1 << 40), DATA, ["a NUL byte at offset 1"]),
    (1, lambda s: s.header(b'{"a":[' + b"[]," * 20_000_000 + b"[]]}"), DATA, ["more values than any such file has"]),
    (2, lambda s: s.header({"a": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 0]}}), DATA, ["key 'a.shape'", "a size that fits 63 bits"]),
    (2, lambda s: s.header({"a": {"dtype": "F32", "shape": [0, 2**62, 4], "data_offsets": [0, 0]}}), DATA, ["a size that fits 63 bits"]),
    (3, lambda s: s.header({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"ab"), DATA, ["tensor 'a' begins at byte 1, after a hole"]),
    (3, lambda s: s.header({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}}, b"ab"), DATA, ["an end that is not before the begin"]),
    (3, lambda s: s.header({}, b"ab"), DATA, ["bytes at the end belong to no tensor"]),
    (4, lambda s: s.header(b'{"a":{},"a":{}}'), DATA, ["key 'a' appears twice"]),
    (5, lambda s: s.header({"a": {"dtype": "U8", "shape": [1e3], "data_offsets": [0, 1000]}}, bytes(1000)), DATA, ["key 'a.shape[0]': got 1000.0"]),
    (6, lambda s: s.write("model/config.json", ""), DATA, ["config.json: not valid JSON"]),
    (6, lambda s: s.write("model/config.json", "{}".encode("utf-16")), DATA, ["config.json: a NUL byte at offset"]),
    (6, lambda s: s.write("model/config.json", b"\xef\xbb\xbf{}"), DATA, ["config.json: starts with a UTF-8 byte order mark"]),
    (6, lambda s: s.write("model/config.json", '{"a": "\\ud800"}'), DATA, ["config.json: not valid JSON"]),
    (6, lambda s: s.write("model/config.json", "[" + "[]," * 5_000_000 + "0]"), DATA, ["config.json: more values than any such file has"]),
    (6, lambda s: s.write("model/config.json", "[]"), DATA, ["config.json: got [], expected an object"]),
    (6, lambda s: ((s.model / "config.json").unlink(), (s.model / "config.json").mkdir()), DATA, ["config.json: not a regular file"]),
    (6, lambda s: s.fifo("model/tokenizer_config.json"), DATA, ["tokenizer_config.json: not a regular file"]),
    (6, lambda s: s.write("model/processor_config.json", "{" * 1000), DATA, ["processor_config.json: "]),
    (6, lambda s: s.edit_json("model/config.json", lambda config: config.update(text_config=[])), DATA, ["key 'text_config': got []"]),
    (6, lambda s: s.sparse("model/tokenizer.model", b"", 1 << 40), DATA, ["tokenizer.model: 1099511627776 bytes, at most"]),
    (7, lambda s: s.weight_map({"a": ""}), DATA, ["key 'weight_map.a': got \"\""]),
    (7, lambda s: s.weight_map({"a": "..\x00"}), DATA, ["key 'weight_map.a': got"]),
    (7, lambda s: s.weight_map({"a": ["model.safetensors"]}), DATA, ["key 'weight_map.a': got [\"model.safetensors\"], expected a string"]),
    (7, lambda s: s.weight_map(["model.safetensors"]), DATA, ["key 'weight_map': got [\"model.safetensors\"], expected an object"]),
    (7, lambda s: s.weight_map({"a": "model.safetensors.index.json"}), DATA, ["model.safetensors.index.json: not a safetensors file"]),
    (7, lambda s: (s.weight_map({}), s.write("model/model.safetensors.index.json", "{}")), DATA, ["key 'weight_map' is missing"]),
    (3, lambda s: s.resize("model/model.safetensors", (s.model / "model.safetensors").stat().st_size - 1), DATA,
     ["model.safetensors: the tensors need", "incomplete download?"]),
    (5, lambda s: s.text_config(vocab_size=1536.0), DATA,
     ["config.json: key 'text_config.vocab_size': got 1536.0, expected a whole number"]),
    (6, lambda s: s.write("model/config.json", "[" * 1_000_000), DATA, ["config.json: nested deeper than 64 levels"]),
    (6, lambda s: s.resize("model/config.json", 2 << 30), DATA, ["config.json: 2147483648 bytes of JSON, at most"]),
    (6, lambda s: s.add("model/config.json", "\0"), DATA, ["config.json: a NUL byte at offset"]),
    (7, lambda s: s.index("/etc/passwd"), DATA, ["key 'weight_map.a': got \"/etc/passwd\""]),
    (7, lambda s: s.index("../train.jsonl"), DATA, ["key 'weight_map.a': got \"../train.jsonl\""]),
    (7, lambda s: s.fifo("model/model.safetensors"), DATA, ["model.safetensors: not a regular file"]),
    (7, Setting.link_weights_outside, DATA, ["model.safetensors: a link to", "outside the checkpoint's folder"]),
    (8, lambda s: s.text_config(num_attention_heads=8), DATA, ["q_proj.weight': got shape [64, 64], config.json makes it [128, 64]"]),
    (8, lambda s: s.text_config(global_head_dim=64), DATA, ["q_proj.weight': got shape [128, 64], config.json makes it [256, 64]"]),
    # 4 GiB, were it allocated.
    (8, lambda s: s.text_config(vocab_size=1 << 24), DATA, ["got shape [1536, 64], config.json makes it [16777216, 64]"]),
    (8, lambda s: s.text_config(num_hidden_layers=9), DATA, ["layer_types lists 8 layers, num_hidden_layers says 9"]),
    (8, lambda s: s.text_config(num_hidden_layers=9, layer_types=["full_attention"] * 9), DATA, ["config.json makes it"]),
    (11, lambda s: s.edit_json("model/tokenizer.json", lambda t: first_word(t, -1)), DATA, ["tokenizer.json: key 'model.vocab'", "is -1"]),
    (9, lambda s: s.header({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"a"), DATA, ["key 'a.dtype': got \"F8_E4M3\""]),
    (10, lambda s: adapter_of(s, {f"{Q_PROJ}.lora_A.weight": ([8, 64], b"\0\0\xc0\x7f" * 512), f"{Q_PROJ}.lora_B.weight": ([128, 8], bytes(4096))}), DATA,
     ["lora_A.weight", "NaN"]),
    (11, lambda s: s.write("model/tokenizer.json", ""), DATA, ["tokenizer.json: not valid JSON"]),
    (11, lambda s: s.edit_json("model/tokenizer.json", lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "u"}, "content": "u" * 9}] * 12})), DATA, ["train.jsonl:1: a replacement in tokenizer.json makes more than"]),
    (11, lambda s: s.edit_json("model/tokenizer.json", lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}] * 100_000})), DATA, ["key 'pre_tokenizer.pretokenizers[16]'"]),
    (11, lambda s: s.edit_json("model/tokenizer.json", lambda t: t.update(more={str(i): i for i in range(100_000)})), DATA, ["more than 4096 keys"]),
    (14, lambda s: s.write("train.jsonl", chat(question="<|image|>")), DATA,
     ["train.jsonl:1: the text holds 1 <|image|>, but 0 images are given"]),
    (15, lambda s: s.add("train.jsonl", "\n{\"messages\": [}\n"), DATA, ["train.jsonl:3: not valid JSON"]),
    (15, lambda s: s.add("train.jsonl", chat(role="bot")), DATA, ["train.jsonl:2: message 1: role 'bot' is not known"]),
    (15, lambda s: s.add("train.jsonl", chat(role="user")), DATA, ["train.jsonl:2: no assistant turn"]),
    (15, lambda s: s.add("train.jsonl", chat(train=False)), DATA, ["train.jsonl:2: every turn is taken out of the loss"]),
    (15, lambda s: s.resize("train.jsonl", 1 << 30), DATA, ["train.jsonl:2: a line of", "at most 67108864 are read"]),
    (15, lambda s: s.add("train.jsonl", chat(role="a\n\x1b[2J\x9b31m")), DATA, ["train.jsonl:2: message 1: role 'a\\x0a\\x1b[2J\\xc2\\x9b31m' is not known"]),
    (15, lambda s: s.write("train.jsonl", chat().encode("utf-16")), DATA, ["train.jsonl: ", "UTF-16", "iconv"]),
    (15, lambda s: s.add("train.jsonl", "[" * 100_000 + "\n"), DATA, ["train.jsonl:2: nested deeper than 64 levels"]),
    (15, lambda s: s.add("train.jsonl", '{"messages": {"role": "user"}}\n'), DATA, ["train.jsonl:2: ", "messages"]),
    (15, lambda s: s.fifo("train.jsonl"), CONFIG, ["train.jsonl is no file"]),
    (16, lambda s: s.write("train.jsonl", "\r\n \t\n" * 1000), DATA, ["train.jsonl: no samples"]),
    (16, lambda s: s.write("train.jsonl", ""), DATA, ["train.jsonl: no samples, the file is empty"]),
    (16, lambda s: (s.write("train.jsonl", chat() + "{}\n"),
                    s.add("config.yaml", "max_seq_length: 3\nskip_bad_samples: true\n")), DATA,
     ["of 2 lines 1 are bad and 1 are longer than max_seq_length = 3"]),
    (17, lambda s: (s.write("a.png", png(60000, 60000)), s.image("a.png")), DATA, ["a.png: image of 60000 x 60000 pixels, at most"]),
    (18, lambda s: (s.write("a.png", png(8, 8)[:40]), s.image("a.png")), DATA, ["train.jsonl:1:", "a.png"]),
    (17, lambda s: (s.write("a.png", webp_canvas(9450)), s.image("a.png")), DATA, ["train.jsonl:1: ", "a.png"]),
    (17, lambda s: (s.write("a.png", png(0, 8)), s.image("a.png")), DATA, ["a.png: "]),
    (18, lambda s: (s.write("a.png", ""), s.image("a.png")), DATA, ["a.png: not an image that Bezel reads"]),
    (18, lambda s: (s.sparse("a.png", png(8, 8)[:8], 3 << 30), s.image("a.png")), DATA, ["a.png: image of 3221225472 bytes, at most"]),
    (18, lambda s: (s.write("a.png", b"GIF80a" + bytes(100)), s.image("a.png")), DATA, ["a.png: not an image that Bezel reads"]),
    (19, lambda s: s.audio(b""), DATA, ["train.jsonl:1: "]),
    (19, lambda s: s.audio(b"no audio clip" * 10), DATA, ["not an audio clip that Bezel reads"]),
    (19, lambda s: s.audio(wav(data=b"")), DATA, ["train.jsonl:1: "]),
    (19, lambda s: s.audio(wav(rate=2**31 - 1)), DATA, ["train.jsonl:1: "]),
    (19, lambda s: s.audio(wav(rate=0)), DATA, ["train.jsonl:1: "]),
    (19, lambda s: s.audio(wav(channels=500)), DATA, ["train.jsonl:1: "]),
    (20, lambda s: (s.link("a.png", "a.png"), s.image("a.png")), DATA, ["train.jsonl:1: media file", "symbolic links"]),
    (20, lambda s: (s.link("a.png", "/etc/passwd"), s.image("a.png")), DATA, ["leads out of the media root through a symlink"]),
    (20, lambda s: s.image("a\0.png"), DATA, ["is empty or holds a NUL byte"]),
    (20, lambda s: s.image("."), DATA, ["train.jsonl:1: ", "media"]),
    (20, lambda s: s.image("/etc/passwd"), DATA, ["train.jsonl:1: media path '/etc/passwd' is absolute"]),
    (20, lambda s: s.image("../a.png"), DATA, ["train.jsonl:1: media path '../a.png' holds '..'"]),
    (20, lambda s: s.image("https://example.org/a.png"), DATA, ["is a URL, and nothing is fetched"]),
    (20, lambda s: (s.fifo("a.png"), s.image("a.png")), DATA, ["train.jsonl:1: media path 'a.png' is not a regular file"]),
    (21, lambda s: s.add("config.yaml", bomb()), CONFIG, ["config.yaml:9", "aliases"]),
    (21, lambda s: s.add("config.yaml", "max_steps: 1\n"), CONFIG, ["config.yaml:8", "key 'max_steps' is given twice"]),
    (21, lambda s: s.add("config.yaml", "learning_rat: 1\n"), CONFIG, ["config.yaml:8", "'learning_rate'"]),
    (21, lambda s: s.add("config.yaml", "lora_r: sixteen\n"), CONFIG, ["config.yaml:8: key 'lora_r': got 'sixteen', expected a whole number"]),
    (21, lambda s: s.write("config.yaml", "[" * 100_000), CONFIG, ["config.yaml:1: "]),
    (21, lambda s: s.write("config.yaml", "a: b\n".encode("utf-16")), CONFIG, ["config.yaml:1"]),
    (21, lambda s: s.write("config.yaml", bytes(range(256))), CONFIG, ["config.yaml"]),
    (21, lambda s: s.write("config.yaml", "a: " + "b" * 10_000_000), CONFIG, ["a config has at most 1048576"]),
    (21, lambda s: s.write("config.yaml", "\tbase_model: a\n"), CONFIG, ["config.yaml:1"]),
    (21, lambda s: s.write("config.yaml", "- base_model\n"), CONFIG, ["config.yaml"]),
    (21, lambda s: s.write("config.yaml", ""), CONFIG, ["base_model"]),
    (21, lambda s: s.add("config.yaml", "target_modules: (a*)*(\n"), CONFIG, ["target_modules: regex '(a*)*('"]),
    (21, lambda s: s.add("config.yaml", "learning_rate: 1e999\n"), CONFIG, ["config.yaml:8: key 'learning_rate': got '1e999'"]),
    (21, lambda s: s.add("config.yaml", "seed: 99999999999999999999\n"), CONFIG, ["config.yaml:8: key 'seed'"]),
    (22, lambda s: adapter_of(s, {}, target_modules="((a{99}){99}){99}"), DATA, ["adapter_config.json: key 'target_modules': regex", "too large with its repeats written out"]),
    (22, lambda s: adapter_of(s, {}, target_modules="(" * 5000), DATA, ["groups inside each other"]),
    (22, lambda s: adapter_of(s, {f"{Q_PROJ}.lora_A.weight": ([4, 64], bytes(1024)), f"{Q_PROJ}.lora_B.weight": ([128, 4], bytes(2048))}), DATA,
     ["adapter_model.safetensors", "lora_A.weight"]),
    (22, lambda s: adapter_of(s, {f"{Q_PROJ}.lora_A.weight": ([8, 64], bytes(2048))}), DATA, ["lora_B"]),
    (22, lambda s: adapter_of(s, {"x": ([1], bytes(4))}), DATA, ["adapter_model.safetensors", "'x'"]),
    (22, lambda s: (adapter_of(s, {}), s.write("adapter/adapter_config.json", "")), DATA, ["adapter_config.json: not valid JSON"]),
    (22, lambda s: adapter_of(s, {}, r=2**40), DATA, ["key 'r': got 1099511627776"]),
    (22, lambda s: spoil_adapter(s, "adapter_model.bin"), DATA, ["adapter_model.bin only, a pickle"]),
    (22, lambda s: spoil_adapter(s, "x", peft_type="LOHA"), DATA, ["key 'peft_type': got \"LOHA\""]),
    (22, lambda s: spoil_adapter(s, "x", bias="all"), DATA, ["key 'bias': got \"all\""]),
    (22, lambda s: adapter_of(s, {f"{Q_PROJ}.lora_A.weight": ([8, 64], bytes(2048)), f"{Q_PROJ}.lora_B.weight": ([64, 8], bytes(2048))}, use_dora=True),
     DATA, ["lora_magnitude_vector", "use_dora"]),
]


def held(folder: Path):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".bezel.lock"}


def problem_of(row, spoil, code, parts):
    """What is wrong with how a bad input was refused; "" when nothing is."""
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name))
        spoil(setting)
        before = held(setting.out)
        got, lines, peak_mib = setting.run()
        good = got == code and len(lines) == 1 and lines[0].startswith("bezel: ") and all(part in lines[0] for part in parts)
        good = good and len(lines[0]) < 2500 and peak_mib < MAX_MIB and setting.cpu_s < MAX_CPU_S and held(setting.out) == before
        return "" if good else f"row {row}: wanted {code} {parts}, got {got} {[line[:500] for line in lines]}, {peak_mib:.0f} MiB, {setting.cpu_s:.1f} s"


def check_damaged_weights():
    """Row 10: found when the value is used, and nothing is read only to look for it; `inspect --check` reads all."""
    tensor = "model.language_model.embed_tokens_per_layer.weight"
    for row, wanted in ((2, DATA), (1535, 0)):  # <bos>, which each sample has, and a word that no sample here has
        with tempfile.TemporaryDirectory() as name:
            setting = Setting(Path(name))
            setting.write_nan(tensor, row)
            code, lines, _ = setting.run()
            assert code == wanted, (row, lines)
            if wanted:
                assert f"tensor '{tensor}': a row that was looked up holds NaN or Inf" in lines[-1], lines
                assert (setting.out / "adapter_model.safetensors").read_text() == "of an earlier run"
            scan = subprocess.run([BEZEL, "inspect", setting.model, "--check"], capture_output=True, text=True)
            assert scan.returncode == DATA and f"tensor '{tensor}': 1 NaN, 0 Inf" in scan.stdout, scan


def check_chat_template():
    """Row 13: a template that leaves the chat out is refused, unless a built-in format or another file was chosen."""
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name))
        setting.write("model/chat_template.jinja", "{{ bos_token }}\n{{ messages[0].role.x.y }}")
        code, lines, _ = setting.run()
        assert code == DATA and "chat_template.jinja: line 2: a str has no attribute or key 'x'" in lines[-1], lines
        setting.add("config.yaml", "chat_format: edge\n")
        code, lines, _ = setting.run()
        assert code == 0 and "chat template" not in "".join(lines), lines


def main():
    problems = [problem for problem in (problem_of(*case) for case in CASES) if problem]
    assert not problems, "\n".join(["", *problems])
    print(f"{len(CASES)} bad inputs are refused")
    check_damaged_weights()
    check_chat_template()


if __name__ == "__main__":
    main()
