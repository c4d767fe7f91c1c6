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
MAX_MIB = 400
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
            return process.returncode, (self.folder / "stderr").read_text().splitlines(), usage.ru_maxrss / 1024


def png(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


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


# Row, how to spoil the setting, exit code, what the message says.
CASES = [
    (1, lambda s: s.resize("model/model.safetensors", 7), DATA, ["model.safetensors: 7 bytes, too short"]),
    (1, lambda s: s.write("model/model.safetensors", b"\xff" * 8 + b"{}"), DATA, ["a header of 18446744073709551615 bytes"]),
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
    (14, lambda s: s.write("train.jsonl", chat(question="<|image|>")), DATA,
     ["train.jsonl:1: the text holds 1 <|image|>, but 0 images are given"]),
    (15, lambda s: s.add("train.jsonl", "\n{\"messages\": [}\n"), DATA, ["train.jsonl:3: not valid JSON"]),
    (15, lambda s: s.add("train.jsonl", chat(role="bot")), DATA, ["train.jsonl:2: message 1: role 'bot' is not known"]),
    (15, lambda s: s.add("train.jsonl", chat(role="user")), DATA, ["train.jsonl:2: no assistant turn"]),
    (15, lambda s: s.add("train.jsonl", chat(train=False)), DATA, ["train.jsonl:2: every turn is taken out of the loss"]),
    (15, lambda s: s.resize("train.jsonl", 1 << 30), DATA, ["train.jsonl:2: a line of", "at most 67108864 are read"]),
    (16, lambda s: s.write("train.jsonl", ""), DATA, ["train.jsonl: no samples, the file is empty"]),
    (16, lambda s: (s.write("train.jsonl", chat() + "{}\n"),
                    s.add("config.yaml", "max_seq_length: 3\nskip_bad_samples: true\n")), DATA,
     ["of 2 lines 1 are bad and 1 are longer than max_seq_length = 3"]),
    (17, lambda s: (s.write("a.png", png(60000, 60000)), s.image("a.png")), DATA, ["a.png: picture of 60000 x 60000 pixels, at most"]),
    (18, lambda s: (s.write("a.png", png(8, 8)[:40]), s.image("a.png")), DATA, ["train.jsonl:1:", "a.png"]),
    (20, lambda s: s.image("/etc/passwd"), DATA, ["train.jsonl:1: media path '/etc/passwd' is absolute"]),
    (20, lambda s: s.image("../a.png"), DATA, ["train.jsonl:1: media path '../a.png' holds '..'"]),
    (20, lambda s: s.image("https://example.org/a.png"), DATA, ["is a URL, and nothing is fetched"]),
    (20, lambda s: (s.fifo("a.png"), s.image("a.png")), DATA, ["train.jsonl:1: media path 'a.png' is not a regular file"]),
    (21, lambda s: s.add("config.yaml", bomb()), CONFIG, ["config.yaml:9", "aliases"]),
    (21, lambda s: s.add("config.yaml", "max_steps: 1\n"), CONFIG, ["config.yaml:8", "key 'max_steps' is given twice"]),
    (21, lambda s: s.add("config.yaml", "learning_rat: 1\n"), CONFIG, ["config.yaml:8", "'learning_rate'"]),
    (21, lambda s: s.add("config.yaml", "lora_r: sixteen\n"), CONFIG, ["config.yaml:8: key 'lora_r': got 'sixteen', expected a whole number"]),
    (22, lambda s: spoil_adapter(s, "adapter_model.bin"), DATA, ["adapter_model.bin only, a pickle"]),
    (22, lambda s: spoil_adapter(s, "x", peft_type="LOHA"), DATA, ["key 'peft_type': got \"LOHA\""]),
    (22, lambda s: spoil_adapter(s, "x", bias="all"), DATA, ["key 'bias': got \"all\""]),
    (22, lambda s: spoil_adapter(s, "x", modules_to_save=["lm_head"]), DATA, ["key 'modules_to_save': got"]),
]


def held(folder: Path):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".bezel.lock"}


def check_case(row, spoil, code, parts):
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name))
        spoil(setting)
        before = held(setting.out)
        got, lines, peak_mib = setting.run()
        what = (row, parts, got, lines, f"{peak_mib:.0f} MiB")
        assert got == code and len(lines) == 1 and lines[0].startswith("bezel: "), what
        assert all(part in lines[0] for part in parts), what
        assert peak_mib < MAX_MIB, what
        assert held(setting.out) == before, what


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


def check_foreign_template():
    """Row 13: a warning, not a refusal, and none when the format was chosen."""
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name))
        setting.write("model/chat_template.jinja", "{{ '<start_of_turn>' }}")
        code, lines, _ = setting.run()
        warnings = [line for line in lines if "chat_template.jinja: this chat template is not one of Gemma 4" in line]
        assert code == 0 and len(warnings) == 1, lines
        setting.add("config.yaml", "chat_format: edge\n")
        code, lines, _ = setting.run()
        assert code == 0 and "chat template" not in "".join(lines), lines


def main():
    for case in CASES:
        check_case(*case)
    print(f"{len(CASES)} bad inputs are refused")
    check_damaged_weights()
    check_foreign_template()


if __name__ == "__main__":
    main()
