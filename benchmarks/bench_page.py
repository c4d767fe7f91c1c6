"""docs/BENCHMARKS.md from the figures of vs_transformers.py."""
import os
import platform
import statistics

# work: [tokens/s of tuned, tokens/s of stock, memory of tuned, start of tuned] that are aimed at
AIMS = {"text": (1.6, 3.5, 0.65, 0.1), "image": (2.0, None, 0.45, 0.1), "audio": (1.6, None, 0.6, 0.1), "text2048": (1.7, None, 0.45, None),
        "scattered": (2.5, 2.5, 0.5, None), "chats": (2.0, None, 0.5, None), "avx2": (1.5, None, 0.3, None), "nf4": (1.6, None, None, None)}
MOST_BYTES = {"text8192": 6.0e9, "nf4": 2.0e9, "nf4-while-loading": 2.0e9}
ROOFLINE_AIM = {"text": 0.65}
DECODE_AIMS = {"decode": 2.0, "decode-nf4": 3.0, "decode-nf4-int8-head": 3.0}
MEANS = {
    "text": "512 tokens, labels on the last 128",
    "image": "text and an image of 2,304 patches, vision tower adapted too",
    "audio": "text and 10.24 s of audio, audio tower adapted too",
    "text2048": "2,048 tokens, labels on the last 512",
    "scattered": "512 tokens, 128 labels at the ends of four turns",
    "chats": "64 chats of 20 to 1,200 tokens, labels on the last quarter of each; micro-batches of 4 of like length there, packed here",
    "text8192": "8,192 tokens, labels on the last 2,048",
    "avx2": "as text, with the instructions of AVX2 alone; the peers in float32, which is faster for them there",
    "nf4": "as text, from a checkpoint in NF4; the peers quantize with bitsandbytes while they load",
    "nf4-while-loading": "as text, Bezel quantizing while it loads",
}


def figures(run):
    """Medians; behind the speed the slowest and the fastest round, where they differ."""
    ends = [f"{run[end]:.0f}" for end in ("slowest", "fastest") if end in run]
    between = f" ({' to '.join(ends)})" if len(set(ends)) > 1 else ""
    return f"{run['tokens_per_s']:.0f}{between} tokens/s, {run['bytes'] / 1e9:.2f} GB, {run['start_s']:.1f} s"


def aimed(value, aim, at_least=True):
    if aim is None:
        return f"{value:.2f}x"
    met = value >= aim if at_least else value <= aim
    return f"{value:.2f}x ({'>=' if at_least else '<='} {aim}{'' if met else ', missed'})"


def training_line(name, result):
    ours, tuned, stock = result["bezel"], result.get("tuned"), result.get("stock")
    aim = AIMS.get(name, (None,) * 4)
    cells = [figures(ours), figures(tuned) if tuned else "", figures(stock) if stock else ""]
    cells.append(aimed(ours["tokens_per_s"] / tuned["tokens_per_s"], aim[0]) if tuned else "")
    cells.append(aimed(ours["tokens_per_s"] / stock["tokens_per_s"], aim[1]) if stock else "")
    memory = [aimed(ours["bytes"] / tuned["bytes"], aim[2], False)] if tuned else []
    if most := MOST_BYTES.get(name):
        memory.append(f"<= {most / 1e9:.1f} GB" + ("" if ours["bytes"] <= most else ", missed"))
    cells.append("; ".join(memory))
    cells.append(aimed(ours["start_s"] / tuned["start_s"], aim[3], False) if tuned else "")
    reached = ", " + aimed(roofline(result), ROOFLINE_AIM.get(name)).replace("x", "") if result.get("product_rate") else ""
    cells.append(f"{result['flops'] / 1e12:.2f} T{reached}")
    return f"| {name} | " + " | ".join(cells) + " |"


def roofline(result):
    """Share of the measured product rate that the needed FLOPs of a step come to."""
    return result["flops"] / result["bezel"]["step_s"] / result["product_rate"]


def decode_line(name, result):
    ours, peer = result["bezel"], result["stock"]
    share = ours["bytes_per_s"] / ours["memory_bytes_per_s"]
    wanted = " (>= 0.75" + ("" if share >= 0.75 else ", missed") + ")" if name == "decode" else ""
    return (f"| {name} | {1e3 * ours['median_s']:.1f} ms | {1e3 * peer['median_s']:.1f} ms | {aimed(peer['median_s'] / ours['median_s'], DECODE_AIMS[name])} | "
            f"{ours['bytes_per_token'] / 1e9:.2f} GB | {ours['bytes_per_s'] / 1e9:.1f} of {ours['memory_bytes_per_s'] / 1e9:.1f} GB/s: {share:.2f}{wanted} |")


def plain_lines(name, result):
    if name == "lengths":
        return [f"| {tokens} | {run['tokens_per_s']:.0f} | {run['bytes'] / 1e9:.2f} GB | {run['flops'] / 1e9 / int(tokens):.2f} G | {run['flops'] / run['step_s'] / 1e9:.0f} GFLOP/s |"
                for tokens, run in result.items()]
    return [f"| {kind} | {run['tokens_per_s']:.0f} | {run['bytes'] / 1e9:.2f} GB |" for kind, run in result.items()]


def lines_of(name, results):
    """The table rows of one part of the results; none if it was not measured."""
    result = results.get(name)
    if result is None:
        return []
    if name in DECODE_AIMS:
        return [decode_line(name, result)]
    return [training_line(name, result)] if "bezel" in result else plain_lines(name, result)


def machine():
    info = dict(map(str.strip, line.split(":", 1)) for line in open("/proc/cpuinfo") if ":" in line)
    cpu = info.get("model name", platform.machine())
    if "cpu family" in info:
        cpu += f" (family {info['cpu family']}, model {info['model']})"
    flags = info.get("flags", "").split()
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{cpu}, {os.cpu_count()} cores, {', '.join(has)}"


def table(head, names, results):
    rows = [line for name in names for line in lines_of(name, results)]
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows]) if rows else ""


def section(title, text, body):
    return f"\n## {title}\n\n{text}\n\n{body}\n" if body else ""


def trained(results):
    if not (found := results.get("gemma3_270m")):
        return ""
    learning, writing = found["training"], found["decoding"]
    line = lambda name, r: f"| {name} | {r['seconds']:.1f} s | {r['bytes'] / 1e9:.2f} GB | {r['right']:.0f} of 40 |"
    b, t = learning["bezel"], learning["tuned"]
    return "\n".join(["| engine | training | memory | held-out questions right |", "|---|---|---|---|", line("Bezel", b), line("transformers + PEFT", t), "",
                      f"{aimed(b['seconds'] / t['seconds'], 0.5, at_least=False)} of the time, {aimed(b['bytes'] / t['bytes'], 0.4, at_least=False)} of the memory; "
                      f"the base answers {b['base']:.0f}. Decoding with {writing['threads']} threads: Bezel {writing['bezel']:.1f} tokens/s, llama.cpp "
                      f"{writing['llama_cpp']:.1f}."])


def eviction_lines(work, result):
    """One row for each piece: what its absence adds to the peak, and what its presence adds to a step."""
    every, without = result["all"], result["none"]
    lines = [f"| {work} | all | {without['bytes'] / 1e9:.2f} to {every['bytes'] / 1e9:.2f} GB | {without['step_s']:.3f} to {every['step_s']:.3f} s |"]
    for piece in ("encoders", "decoder", "head"):
        if rest := result.get(piece):
            lines.append(f"| {work} | {piece} | {(rest['bytes'] - every['bytes']) / 1e6:+.0f} MB without it | "
                         f"{100 * (every['step_s'] / rest['step_s'] - 1):+.1f} % with it |")
    return lines


def eviction(results):
    if not (found := results.get("eviction")):
        return ""
    rows = [line for work, result in found.items() for line in eviction_lines(work, result)]
    last = list(found.values())[-1]
    return section("Eviction", "Mapped weights that a step evicts (`bezel bench --evict`, benchmarks/eviction.py): the peak of a process and the median step, "
                   f"{last['rounds']} rounds in turn.\nA piece is compared with a step that evicts the others. On {last['machine']}.",
                   "\n".join(["| work | evicted | peak | step |", "|---|---|---|---|", *rows]))


def medians_of(runs):
    return {key: statistics.median(run[key] for run in runs) for key in ("rate", "bytes")}


def rounds_text(found):
    return "One round" if found["rounds"] == 1 else f"Medians of {found['rounds']} rounds in turn"


def counts_text(measured):
    """Rounds and steps of them all."""
    counts = sorted({(one["rounds"], one["steps"]) for one in measured})
    return "; ".join(f"{r} {'round' if r == 1 else 'rounds'} of {s} steps" for r, s in counts)


SHARED_MEANS = {
    "chats": ("64 chats of 100 to 300 tokens, 40 learnt, behind one system prompt of 1,200", "16 of the 64", "4 of the 64, in one micro-batch"),
    "images": ("8 questions about each of 8 pictures of 2,304 patches, vision tower adapted", "the 8 about one picture", "one question"),
    "pairs": ("8 preference pairs (SimPO), prompt 512, answers 128 each", "all", "one pair, TRL's loss"),
    "pairs-31b": ("2 such pairs on two layers of 31B's shape", "all", "one pair, TRL's loss"),
}


def shared_line(name, found):
    apart, shared = (medians_of(found["runs"][engine]) for engine in ("apart", "shared"))
    peer = medians_of(found["runs"]["peer"]) if found["runs"].get("peer") else None
    times, rate = shared["rate"] / apart["rate"], statistics.median(found["runs"]["product_rate"])
    reached = found["flops"] / (found["tokens"] / shared["rate"]) / rate
    cells = [f"{apart['rate']:.0f} tokens/s, {apart['bytes'] / 1e9:.2f} GB", f"{shared['rate']:.0f} tokens/s, {shared['bytes'] / 1e9:.2f} GB", f"{times:.2f}x",
             f"{found['ceiling']:.2f}x", aimed(times / found["ceiling"], 0.85).replace("x", ""), f"{reached:.2f}",
             f"{peer['rate']:.0f} tokens/s, {peer['bytes'] / 1e9:.2f} GB" if peer else "",
             aimed(shared["rate"] / peer["rate"], {"chats": 8.0, "pairs": 2.0, "pairs-31b": 2.0}.get(name)) if peer else ""]
    return f"| {name} | " + " | ".join(cells) + " |"


def shared_prefixes(results):
    found = {name: case for name, case in results.get("shared_prefixes", {}).items() if {"apart", "shared"} <= case["runs"].keys()}
    if not found:
        return ""
    names = [name for name in SHARED_MEANS if name in found]
    some = [(name, engine, runs) for name in names for engine, runs in found[name]["runs"].items() if engine != "product_rate"]
    rounds = ", ".join(f"{name} {engine} {len(runs)} of {runs[0]['steps']}" for name, engine, runs in some)
    awake = [f"{name} {engine}" for name, engine, runs in some if runs[0]["waits"] != "passive"]
    waits = "" if len(awake) == len(some) else "OMP_WAIT_POLICY=passive" + (f" but for {', '.join(awake)}" if awake else "") + ". "
    text = ("Steps with `share_prefixes`, without, and of the tuned peer (benchmarks/shared_prefixes.py), bfloat16, rank 16, ten layers of E2B's shape where\n"
            "nothing else is said. Tokens a second count each sample's own tokens. Ceiling: the products that a step needs without sharing, beside those with.\n"
            "Needed: as above, of the step that shares. Those that do not share were timed on a part of the samples, which cost them all the same.\n"
            f"Rounds, and steps of a run, of which the first is left out where there are more: {rounds}.\n"
            f"{waits}On {found[names[-1]]['machine']}.")
    head = "| work | without | with | times | ceiling | share of it | needed | tuned peer | tokens/s of the peer |"
    means = [f"- {name}: {what}; without sharing {part} timed, by the peer {few}" for name in names for what, part, few in [SHARED_MEANS[name]]]
    return section("Shared prefixes", text, "\n".join([head, "|" + "---|" * 9, *(shared_line(name, found[name]) for name in names), "", *means]))


SERIAL_AIMS = {"text": 0.03, "audio": 0.04}
SPEEDUP_AIMS = {"text": 1.92, "audio": 1.88}


def serial_line(work, found):
    share = found["serial_s"] / found["all_s"]
    said = {str(n): seconds for n, seconds in found["predicted_s"].items()}
    own = str(found["threads"])
    times = [f"{found['one_s'] / said[n]:.2f}x" for n in said if n != own]
    return (f"| {work} | {found['one_s']:.3f} s | {found['all_s']:.3f} s | {aimed(found['one_s'] / found['all_s'], SPEEDUP_AIMS.get(work))} | "
            f"{1e3 * found['serial_s']:.0f} ms, {aimed(100 * share, SERIAL_AIMS[work] * 100 if work in SERIAL_AIMS else None, at_least=False).replace('x', ' %')} | "
            f"{100 * found['imbalance']:.1f} % | {found['slowdown']:.3f}x | {said[own]:.3f} s | {', '.join(times)} |")


def minutes_text(found):
    """Of 1,000 samples, of which a step takes 4."""
    minutes = lambda seconds: f"{seconds * 1000 / 4 / 60:.0f}"
    return (f"1,000 samples of 300 tokens take {minutes(found['all_s'])} minutes on {found['threads']} cores; predicted: "
            + ", ".join(f"{minutes(seconds)} on {n}" for n, seconds in found["predicted_s"].items() if str(n) != str(found["threads"])))


def serial_share(results):
    if not (found := results.get("serial_share")):
        return ""
    last = list(found.values())[-1]
    n = last["threads"]
    cores = ", ".join(key for key in map(str, last["predicted_s"]) if key != str(n))
    text = (f"Three things apart (benchmarks/serial_share.py; {rounds_text(last).lower()}): seconds of a step outside of OpenMP regions, what threads of a\n"
            f"region wait for the slowest of it, and the slowdown of a core while the other runs a process of its own. A step of n threads is predicted as\n"
            f"serial + (step of one thread - serial) x slowdown x (1 + imbalance) / n: for {n} threads beside what was measured, for {cores} cores in times of\n"
            f"one thread, where all three are taken to be those of this machine. On {last['machine']}.")
    head = f"| work | 1 thread | {n} threads | times | serial, share of the step | imbalance | slowdown | predicted | {cores} cores |"
    whole = [f"{work}: {minutes_text(one)}." for work, one in found.items() if work.startswith("samples")]
    return section("Serial share", text, "\n".join([head, "|" + "---|" * 9, *(serial_line(work, one) for work, one in found.items()), "", *whole]).rstrip())


def whole_line(name, found):
    ours, peer = found["bezel"], found.get("peer")
    scaled = found["layers"] < found["whole"]
    cells = [f"{found['layers']} of {found['whole']}", f"{ours['tokens_per_s']:.0f} tokens/s, {ours['bytes'] / 1e9:.2f} GB", f"{found['share']:.2f}",
             f"{peer['tokens_per_s']:.0f} tokens/s, {peer['bytes'] / 1e9:.2f} GB" if peer else "",
             f"{ours['tokens_per_s'] / peer['tokens_per_s']:.2f}x, {ours['bytes'] / peer['bytes']:.2f}x" if peer else "",
             f"{ours['step_s'] * found['times']:.1f} s{' (scaled)' if scaled else ''}",
             f"{peer['step_s'] * found['peer_times'] / (ours['step_s'] * found['times']):.2f}x (scaled)" if peer and scaled else ""]
    return f"| {name} | " + " | ".join(cells) + " |"


def whole_model(results):
    if not (found := results.get("whole_model")):
        return ""
    last = list(found.values())[-1]
    rounds = counts_text(found.values())
    text = ("Each size of Gemma 4 (benchmarks/whole_model.py): text of 512 tokens where nothing else is said, labels on the last quarter, rank 16 on the seven\n"
            "projections of all layers; the tuned peer, which in NF4 quantizes with bitsandbytes while it loads. Share: of the product rate, as above. A step\n"
            "of two layers is scaled to all of them by the FLOPs that both need, of Bezel and of the peer, which computes all rows of the last layer.\n"
            f"{rounds}, medians without the first step.\nOn {last['machine']}.")
    head = "| size | layers | Bezel | share | tuned peer | speed, memory | a step of all layers | speed there |"
    return section("Each size", text, "\n".join([head, "|" + "---|" * 8, *(whole_line(name, one) for name, one in found.items())]))


def experts_line(name, found):
    ours, peer = found["bezel"], found.get("peer")
    cells = [f"{ours['step_s']:.2f} s, {ours['bytes'] / 1e9:.1f} GB", aimed(found["share"], 0.45 if name == "experts frozen" else None).replace("x", ""),
             f"{peer['step_s']:.2f} s, {peer['bytes'] / 1e9:.1f} GB" if peer else "", aimed(peer["step_s"] / ours["step_s"], 6.0 if name == "experts frozen" else None) if peer else "",
             f"{peer['step_s'] / ours['step_s'] / found['share']:.1f}x" if peer else ""]
    return f"| {name} | " + " | ".join(cells) + " |"


def experts(results):
    if not (found := results.get("experts")):
        return ""
    last = list(found.values())[-1]
    text = (f"Two layers of 26B-A4B's shape, one sliding and one full (benchmarks/experts.py): {last['tokens']} tokens, labels on the last quarter, bfloat16, rank 16,\n"
            f"a vocabulary of {last['vocab']:,}; the tuned peer with transformers' grouped_mm. {rounds_text(last)}. Share: the products that a\n"
            f"step needs, of the rate of one large product. {'OMP_WAIT_POLICY=' + last['waits'] + '. ' if last['waits'] else ''}On {last['machine']}.")
    head = "| work | Bezel | share | tuned peer | times as fast | at the product rate itself |"
    return section("Experts", text, "\n".join([head, "|" + "---|" * 6, *(experts_line(name, one) for name, one in found.items())]))


def replace_section(page, body):
    """Writes a section over that of its title, or before the section "Beside"."""
    text = page.read_text()
    title = body.split("\n")[1]
    begin = text.find("\n" + title + "\n")
    end = text.find("\n## ", begin + 1) if begin >= 0 else text.find("\n## Beside\n")
    begin = begin if begin >= 0 else end
    if end < 0:
        raise SystemExit(f"{page}: no section behind '{title}'; write the page with benchmarks/vs_transformers.py")
    page.write_text(text[:begin] + body + text[end:])


def with_other_sections(new, old):
    """`new` with what `old` has and it lacks: sections that other programs wrote, and the counts at its end."""
    at = old.find("\n<!-- device counts -->")
    old, counts = (old, "") if at < 0 else (old[:at], old[at:])
    kept = "".join(f"\n## {text.rstrip()}\n" for text in old.split("\n## ")[1:] if f"\n## {text.splitlines()[0]}\n" not in new)
    end = new.find("\n## Beside\n")
    return (new if end < 0 else new[:end]) + kept + ("" if end < 0 else new[end:]) + counts


def notes(results):
    said = []
    if index := results.get("scattered", {}).get("index"):
        ratio = results["scattered"]["bezel"]["tokens_per_s"] / index["tokens_per_s"]
        said.append(f"A peer that is told the positions of scattered labels (a tensor as `logits_to_keep`) makes {index['tokens_per_s']:.0f} tokens/s with "
                    f"{index['bytes'] / 1e9:.2f} GB; Bezel {ratio:.2f}x of that.")
    if (text := results.get("text")) and (nf4 := results.get("nf4")) and text["day"] == nf4["day"]:
        said.append(f"Training on NF4 runs at {nf4['bezel']['tokens_per_s'] / text['bezel']['tokens_per_s']:.2f} of the speed on bfloat16 (0.85 is aimed at).")
    if threads := results.get("threads"):
        fewest, most = min(threads, key=int), max(threads, key=int)
        said.append(f"{most} threads give {threads[most]['tokens_per_s'] / threads[fewest]['tokens_per_s']:.2f} times the tokens/s of {fewest} (1.7 is aimed at for 2).")
    return "\n".join(f"- {line}" for line in said)


def days(results):
    """When what was measured, if not all on one day."""
    by_day = {}
    for name, result in results.items():
        if "day" in result:
            by_day.setdefault(result["day"], []).append(name)
    if len(by_day) < 2:
        return ""
    return "\n\nMeasured on " + "; ".join(f"{day}: {', '.join(names)}" for day, names in sorted(by_day.items())) + "."


def page(results):
    import peft
    import torch
    import transformers

    names = [*MEANS]
    measured = [name for name in names if name in results]
    missing = [name for name in [*names, *DECODE_AIMS, "shares", "lengths", "threads"] if name not in results]
    rates = [r["product_rate"] for name in measured if (r := results[name]).get("product_rate")]
    how = counts_text(results[name] for name in measured)
    return (f"""# Benchmarks

Made by `make bench` (benchmarks/vs_transformers.py): training steps of LoRA of rank 16, bfloat16, on a checkpoint with E2B's
geometry and random weights cut to ten text layers (tools/make_bench_model.py). Bezel and the peers ran in turn on the same tensors
({how}); figures are medians over the steps after the
first, and in brackets the slowest and the fastest round, or what is aimed at. GB are 10^9 bytes, the most that a process had resident,
pages of mapped files included. Start: from the start of the process until the first forward begins.

Tuned: transformers + PEFT as an expert runs them: adapters in bfloat16, logits from the first label on, explicit masks or eager
attention, whichever was faster. Stock: as the documentation shows.

Machine: {machine()}. torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}.{days(results)}
"""
            + section("Training", (f"Needed: FLOPs that a step cannot do without (benchmarks/needed_flops.py), and the share of the machine's product rate that they come to\n"
                                   f"in the time of Bezel's step. A bfloat16 product of 512 x 1,536 by 1,536 x 6,144 ran at {sum(rates) / len(rates) / 1e9:.0f} GFLOP/s in the same runs.") if rates else "",
                      table("| work | Bezel | tuned | stock | tokens/s of tuned | tokens/s of stock | memory of tuned | start of tuned | needed |", names, results))
            + "\n" + "\n".join(f"- {name}: {MEANS[name]}" for name in measured) + "\n"
            + section("Decoding", "Greedy tokens behind a prompt of 512, medians; weights read for each token, beside what plain reading of memory with all threads\n"
                      "gives in the same run. The peer is `generate` over bfloat16 in all rows.",
                      table("| work | Bezel | transformers | times as fast | read for a token | memory |", DECODE_AIMS, results))
            + section("Trained weights", "Gemma 3 270M from its Q4_K_M GGUF file (benchmarks/gemma3_270m.py): the demo's 134 questions and answers, batches of 8, three\n"
                      "epochs, bfloat16, rank 16 on all seven projections.", trained(results))
            + section("Share of labels", "512 tokens, by how many of them carry labels and where.", table("| labels, % | tokens/s | memory |", ["shares"], results))
            + section("Length", "One row, labels on its last quarter. Needed FLOPs of a token grow with the pairs that full attention sees.",
                      table("| tokens | tokens/s | memory | needed for a token | reached |", ["lengths"], results))
            + section("Threads", "As text.", table("| threads | tokens/s | memory |", ["threads"], results))
            + whole_model(results)
            + shared_prefixes(results)
            + experts(results)
            + serial_share(results)
            + eviction(results)
            + section("Beside", "Further figures of the same runs:", notes(results))
            + f"\nNot measured: any GPU{''.join('; ' + name for name in missing)}.\n")
