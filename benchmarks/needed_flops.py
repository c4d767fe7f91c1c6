"""FLOPs that a training step of LoRA over a frozen Gemma 4 needs, from the checkpoint's config.json and the tensors of the step.

Counted are products: each frozen matrix once forward and once for the gradient of its input, adapters three times (forward, their
own gradients, their input's), attention's pairs of a query and a key that it sees, twice forward and four times backward. Nothing
is computed twice, and nothing that no label needs: above the last layer with keys and values of its own only rows that predict a
label, and of that layer for the other rows keys and values alone. Products of the embedded input, which has no gradient, have no
backward pass. Elementwise work is not counted.
"""
IGNORE = -100


def layer_list(text):
    """(type, head_dim, heads of keys and values, ffn, has keys and values of its own) of each layer. transformers saves what differs between
    layers as per_layer_config, whose keys may be padded with zeros."""
    first_shared = text["num_hidden_layers"] - text.get("num_kv_shared_layers", 0)
    own = {int(key): value for key, value in (text.get("per_layer_config") or {}).items()}
    for i, kind in enumerate(text["layer_types"]):
        shared = i >= first_shared
        wide = 2 if shared and text.get("use_double_wide_mlp") else 1
        full = kind == "full_attention"
        head_dim = text["global_head_dim"] if full and text.get("global_head_dim") else text["head_dim"]
        kv = full and text.get("attention_k_eq_v") and text.get("num_global_key_value_heads") or text["num_key_value_heads"]
        about = own.get(i, {})
        yield full, about.get("head_dim", head_dim), about.get("num_key_value_heads", kv), text["intermediate_size"] * wide, not shared


def product(rows, inner, outer, rank, backward=True):
    """A frozen [outer, inner] with an adapter of `rank` (0: none) over `rows`, with the gradient of its input or without."""
    frozen = 2 * rows * inner * outer * (2 if backward else 1)
    adapter = 2 * rows * rank * (inner + outer) * 2 + (2 * rows * rank * (inner + outer) if backward else 2 * rows * rank * outer)
    return frozen + (adapter if rank else 0)


def seen_pairs(mask, queries, window):
    """Pairs of a query and a key it sees in causal attention over rows of real tokens; queries bool [B, T]."""
    pairs = 0
    for row, asking in zip(mask.tolist(), queries.tolist()):
        keys, real = 0, []
        for flag in row:
            keys += flag
            real.append(keys)
        for i, asks in enumerate(asking):
            if asks:
                pairs += real[i] - (real[i - window] if window and i >= window else 0)
    return pairs


def text_flops(config, inputs, rank, expert_rank=0, prunes_last_own=True):
    """Without prunes_last_own the last layer with keys of its own takes all rows, as transformers' does; layers above it do not."""
    text, mask, labels = config["text_config"], inputs["attention_mask"].bool(), inputs["labels"]
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    predicting = (labels != IGNORE).roll(-1, 1)  # the position before each label
    predicting[:, -1] = False
    all_rows, some_rows = int(mask.sum()), int(predicting.sum())
    layers = list(layer_list(text))
    pruned_from = max(i for i, layer in enumerate(layers) if layer[-1]) + (0 if prunes_last_own else 1)
    pairs = {}
    flops = 0
    for i, (full, head_dim, kv, ffn, own) in enumerate(layers):
        asking = predicting if i >= pruned_from else mask
        rows = some_rows if i >= pruned_from else all_rows
        if (full, i >= pruned_from) not in pairs:
            pairs[full, i >= pruned_from] = seen_pairs(mask, asking, 0 if full else text["sliding_window"])
        graph = i > 0  # below the first adapter nothing needs a gradient
        flops += product(rows, hidden, heads * head_dim, rank, graph) + product(rows, heads * head_dim, hidden, rank)
        if own and full and text.get("attention_k_eq_v"):  # values are the keys
            flops += product(all_rows, hidden, kv * head_dim, rank, graph)
        elif own:
            flops += 2 * product(all_rows, hidden, kv * head_dim, rank, graph)
        flops += 3 * product(rows, hidden, ffn, rank)
        if text.get("enable_moe_block"):
            flops += product(rows, hidden, text["num_experts"], 0) + 3 * product(rows * text["top_k_experts"], hidden, text["moe_intermediate_size"], expert_rank)
        flops += 12 * pairs[full, i >= pruned_from] * heads * head_dim
        if width := text.get("hidden_size_per_layer_input"):
            flops += 2 * product(rows, hidden, width, 0) + product(rows, hidden, width, 0, backward=False)
    return flops + product(some_rows, hidden, text["vocab_size"], 0)


def image_flops(config, inputs, rank):
    """Real patches through the vision tower, whose attention is full, and the embedder."""
    if "pixel_values" not in inputs:
        return 0
    vision, flops = config["vision_config"], 0
    hidden, ffn = vision["hidden_size"], vision["intermediate_size"]
    heads = vision["num_attention_heads"] * vision["head_dim"]
    for positions in inputs["image_position_ids"]:
        rows = int((positions >= 0).all(-1).sum())
        layer = 3 * product(rows, hidden, heads, rank) + product(rows, heads, hidden, rank) + 3 * product(rows, hidden, ffn, rank) + 12 * rows * rows * heads
        flops += vision["num_hidden_layers"] * layer + product(rows, 3 * vision["patch_size"] ** 2, hidden, 0, backward=False)
        flops += product(rows // vision["pooling_kernel_size"] ** 2, hidden, config["text_config"]["hidden_size"], 0)
    return flops


def audio_flops(config, inputs, rank):
    """Real frames through the audio tower, a quarter of them after its convolutions, and the embedder."""
    if "input_features" not in inputs:
        return 0
    audio, flops = config["audio_config"], 0
    hidden = audio["hidden_size"]
    first, second = audio["subsampling_conv_channels"]
    mels = inputs["input_features"].shape[-1]
    seen = audio["attention_context_left"]
    for mask in inputs["input_features_mask"]:
        frames = int(mask.sum())
        rows = frames // 4
        layer = 4 * product(rows, hidden, 4 * hidden, rank)  # two feed-forwards of two matrices
        layer += 4 * product(rows, hidden, hidden, rank)  # q, k, v, post
        layer += product(rows, hidden, 2 * hidden, rank) + product(rows, hidden, hidden, rank)  # linear_start, linear_end
        layer += 12 * rows * seen * hidden
        flops += audio["num_hidden_layers"] * layer
        flops += 2 * 9 * first * (frames // 2) * (mels // 2) + 2 * 9 * first * second * rows * (mels // 4)
        flops += product(rows, second * mels // 4, hidden, 0, backward=False)
        flops += product(rows, hidden, audio["output_proj_dims"], 0) + product(rows, audio["output_proj_dims"], config["text_config"]["hidden_size"], 0)
    return flops


def needed_flops(config, inputs, rank=16, towers=("language",)):
    """Of one step over `inputs`. A tower without adapters has no backward pass; `experts` is a tower here."""
    flops = text_flops(config, inputs, rank, rank if "experts" in towers else 0)
    for name, count in (("vision", image_flops), ("audio", audio_flops)):
        tower = count(config, inputs, rank if name in towers else 0)
        flops += tower if name in towers else tower / 2
    return flops
