"""How far data parallelism goes, on paper: updates an hour on so many machines, from what scaling.py has measured on one.

    .venv/bin/python3 benchmarks/scaling.py                                        # first: writes build/bench/scaling.json
    .venv/bin/python3 benchmarks/cluster_projection.py [--page docs/CLUSTER.md]

An update has 256 samples of 512 tokens, the last 128 labelled; LoRA of rank 16 on attention and MLP. On M machines it takes

    ceil(256 / M) * sample  +  serial  +  2 * S * (M - 1) / M / rate  +  8 * log2(M) * latency

sample: needed FLOPs (needed_flops.py) of the model at the rate that the measured row reached. serial: what the measured update took
beside its micro-batches, in proportion to the adapter. S: bytes of the adapter's float32 gradients. The last two terms are the sum of
gradients and the small messages of an update. `speed` stands for machines that compute so many times as fast as the measured one.
"""
import argparse
import json
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks")]

SAMPLES, TOKENS, LABELS, RANK = 256, 512, 128, 16
MACHINES = (1, 4, 16, 64, 256)
LATENCY_S = 50e-6
BEGIN, END = "<!-- projection -->\n", "<!-- end of projection -->\n"


def layer_types(layers, period):
    return ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(layers)]


def geometry(hidden, layers, period, heads, kv, ffn, window, shared=0, per_layer=0, wide=False, keys_are_values=False):
    return {"hidden_size": hidden, "num_hidden_layers": layers, "layer_types": layer_types(layers, period), "num_attention_heads": heads,
            "num_key_value_heads": kv, "head_dim": 256, "global_head_dim": 512, "intermediate_size": ffn, "sliding_window": window,
            "num_kv_shared_layers": shared, "hidden_size_per_layer_input": per_layer, "use_double_wide_mlp": wide, "vocab_size": 262144,
            "attention_k_eq_v": keys_are_values}


# Of the released configs. The larger models' full attention has fewer key heads than counted here: 1 % of the FLOPs at most.
MODELS = {"E2B": geometry(1536, 35, 5, 8, 1, 6144, 512, 20, 256, True),
          "12B": geometry(3840, 48, 6, 16, 8, 15360, 1024, keys_are_values=True),
          "31B": geometry(5376, 60, 6, 32, 16, 21504, 1024, keys_are_values=True)}
MEASURED = geometry(1536, 10, 5, 8, 1, 6144, 512, 5, 256, True)  # of make_bench_model.py


def flops(text, rank=RANK):
    """Of a micro-batch of one sample."""
    import torch
    from needed_flops import needed_flops

    labels = torch.full((1, TOKENS), -100)
    labels[:, -LABELS:] = 1
    return needed_flops({"text_config": text}, {"attention_mask": torch.ones(1, TOKENS), "labels": labels}, rank)


def adapter_bytes(text):
    """Of float32 A and B on q, k, v, o, gate, up and down."""
    from needed_flops import layer_list

    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    count = 0
    for full, head_dim, kv, ffn, own in layer_list(text):
        count += 2 * (hidden + heads * head_dim) + 3 * (hidden + ffn)
        if own:
            count += (1 if text["attention_k_eq_v"] and full else 2) * (hidden + kv * head_dim)
    return 4 * RANK * count


class Projection:
    def __init__(self, measured, speed):
        self.flops_per_s = speed * flops(MEASURED) / measured["micro_batch_s"]
        self.serial_per_byte = measured["serial_s"] / speed / measured["runs"]["1 x 2"]["adapter_bytes"]

    def update_s(self, text, machines, bits_per_s):
        size = adapter_bytes(text)
        shared = math.ceil(SAMPLES / machines) * flops(text) / self.flops_per_s
        alone = self.serial_per_byte * size
        if machines == 1:
            return shared + alone
        return shared + alone + 2 * size * (machines - 1) / machines * 8 / bits_per_s + 8 * math.log2(machines) * LATENCY_S

    def line(self, name, bits_per_s):
        text = MODELS[name]
        first = self.update_s(text, 1, bits_per_s)
        cells = []
        for machines in MACHINES:
            seconds = self.update_s(text, machines, bits_per_s)
            cells.append(f"{number(3600 / seconds)} ({100 * first / seconds / machines:.0f} %)")
        return f"| {name} | {adapter_bytes(text) / 1e6:.0f} MB | {number(flops(text) / self.flops_per_s)} s | " + " | ".join(cells) + " |"


def number(value):
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"


def page(measured, speeds):
    parts = [f"Measured: {measured['machine']}, {measured['runs']['1 x 2']['tokens_per_s']:.0f} tokens/s on the text row, {1e3 * measured['serial_s']:.0f} ms an update beside\n"
             f"its micro-batches (docs/BENCHMARKS.md). Updates of 256 samples of 512 tokens an hour, and in brackets the share of what so many machines\n"
             f"would do at best; computed by benchmarks/cluster_projection.py, which says how.\n"]
    for speed, rate in speeds:
        machine = "machines like it" if speed == 1 else f"machines {speed} times as fast"
        head = f"| {machine}, {rate / 1e9:.0f} Gbit/s | adapter | a sample | " + " | ".join(str(m) for m in MACHINES) + " |"
        parts.append("\n".join([head, "|" + "---|" * (3 + len(MACHINES))] + [Projection(measured, speed).line(name, rate) for name in MODELS]) + "\n")
    return "\n".join(parts)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--measured", default=ROOT / "build" / "bench" / "scaling.json", type=Path)
    p.add_argument("--page", type=Path, help="docs/CLUSTER.md, to write the tables into")
    options = p.parse_args()
    text = page(json.loads(options.measured.read_text()), ((1, 1e9), (30, 1e9), (30, 10e9)))
    print(text)
    if options.page:
        old = options.page.read_text()
        begin, end = old.index(BEGIN) + len(BEGIN), old.index(END)
        options.page.write_text(old[:begin] + "\n" + text + "\n" + old[end:])


if __name__ == "__main__":
    main()
