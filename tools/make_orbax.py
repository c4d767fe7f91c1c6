"""Writes a Gemma 4 checkpoint of Hugging Face's form as Google's Orbax releases have it: the inverse of `bezel convert`.

    make_orbax.py HF_FOLDER OUT [--write-hf FOLDER] [--layout nested|flat] [--dtype float32|bfloat16] [--plain-zarr] [--zarr3]
                  [--bare-mlp] [--chunks BYTES] [--no-extras] [--seed 0]

Needs numpy, safetensors, ml_dtypes and orbax-checkpoint (0.12.8). HF_FOLDER has config.json (gemma4 or gemma4_text) and
safetensors. --layout nested has the keys of the releases, ('layer_0', 'attn', 'q_einsum', 'w'); flat those of the Gemma 2 and 3
releases, ('transformer/layer_0/attn/q_einsum', 'w'), language model only. --write-hf writes the Hugging Face folder that OUT
stands for: one einsum has one set of clip bounds, so v_proj takes those of k_proj, and up_proj those of gate_proj. As in the
releases, embedder.mm_input_embedding_extra and embedder.audio_input_embedding_extra are there too, with random values.
"""
import argparse
import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import safe_open


class Source:
    def __init__(self, folder):
        files = sorted(Path(folder).glob("*.safetensors")); self.t = {}
        for f in files:
            with safe_open(f, "np") as h:
                for k in h.keys(): self.t[k] = h.get_tensor(k)
        self.used, self.replaced = set(), []

    def __contains__(self, k): return k in self.t

    def __call__(self, k):
        self.used.add(k)
        return np.asarray(self.t[k])

    def replace(self, k, by):
        if not np.array_equal(self(k), self(by)): self.replaced.append(k); self.t[k] = self.t[by]

    def linear(self, stem):  # both checkpoint layouts of the towers
        return self(f"{stem}.linear.weight" if f"{stem}.linear.weight" in self else f"{stem}.weight")


def heads_in(w, n):  # Linear [n*h, d] -> einsum [n, d, h]
    return w.reshape(n, w.shape[0] // n, w.shape[1]).transpose(0, 2, 1)


def heads_out(w, n):  # Linear [d, n*h] -> einsum [n, h, d]
    return w.reshape(w.shape[0], n, w.shape[1] // n).transpose(1, 2, 0)


def put(tree, path, value):
    for p in path[:-1]: tree = tree.setdefault(p, {})
    tree[path[-1]] = np.array(value, order="C")  # np.ascontiguousarray would make scalars 1-d


CLIP = ("input_min", "input_max", "output_min", "output_max")


def text(src, cfg, out, prefix, rng, bare_mlp):
    t = cfg.get("text_config", cfg); L, N = t["num_hidden_layers"], t["num_attention_heads"]; ple = t.get("hidden_size_per_layer_input") or 0
    mlp_leaf = (lambda *p: p) if bare_mlp else (lambda *p: (*p, "w"))
    put(out, ("embedder", "input_embedding"), src(f"{prefix}embed_tokens.weight"))
    put(out, ("final_norm", "scale"), src(f"{prefix}norm.weight"))
    if ple:
        put(out, ("embedder", "per_layer_embeddings"), src(f"{prefix}embed_tokens_per_layer.weight").reshape(-1, L, ple))
        put(out, ("embedder", "per_layer_model_projection", "w"), src(f"{prefix}per_layer_model_projection.weight").T.reshape(-1, L, ple))
        put(out, ("embedder", "per_layer_projection_norm", "scale"), src(f"{prefix}per_layer_projection_norm.weight"))
    for i in range(L):
        p, o = f"{prefix}layers.{i}.", (f"layer_{i}",)
        head = src(p + "self_attn.q_norm.weight").shape[0]
        put(out, (*o, "attn", "q_einsum", "w"), heads_in(src(p + "self_attn.q_proj.weight"), N))
        put(out, (*o, "attn", "attn_vec_einsum", "w"), heads_out(src(p + "self_attn.o_proj.weight"), N))
        put(out, (*o, "attn", "query_norm", "scale"), src(p + "self_attn.q_norm.weight"))
        if p + "self_attn.k_proj.weight" in src:
            k = src(p + "self_attn.k_proj.weight"); K = k.shape[0] // head; k = heads_in(k, K)
            if p + "self_attn.v_proj.weight" in src: put(out, (*o, "attn", "kv_einsum", "w"), np.stack([k, heads_in(src(p + "self_attn.v_proj.weight"), K)]))
            else: put(out, (*o, "attn", "k_einsum", "w"), k)
            put(out, (*o, "attn", "key_norm", "scale"), src(p + "self_attn.k_norm.weight"))
        put(out, (*o, "skip_scale"), src(p + "layer_scalar"))
        put(out, (*o, "pre_attention_norm", "scale"), src(p + "input_layernorm.weight"))
        put(out, (*o, "post_attention_norm", "scale"), src(p + "post_attention_layernorm.weight"))
        moe = p + "router.proj.weight" in src
        dense = "mlp2" if moe else "mlp"
        put(out, (*o, *mlp_leaf(dense, "gating_einsum")), np.stack([src(p + "mlp.gate_proj.weight"), src(p + "mlp.up_proj.weight")]))
        put(out, (*o, *mlp_leaf(dense, "linear")), src(p + "mlp.down_proj.weight").T)
        put(out, (*o, "pre_ffw2_norm" if moe else "pre_ffw_norm", "scale"), src(p + "pre_feedforward_layernorm.weight"))
        put(out, (*o, "post_ffw_norm", "scale"), src(p + "post_feedforward_layernorm.weight"))
        if moe:
            e = src(p + "experts.gate_up_proj")
            put(out, (*o, "mlp", "gating_einsum", "w"), e.reshape(e.shape[0], 2, e.shape[1] // 2, e.shape[2]))
            put(out, (*o, "mlp", "linear", "w"), src(p + "experts.down_proj").transpose(0, 2, 1))
            put(out, (*o, "mlp", "router_logits", "w"), src(p + "router.proj.weight").T)
            put(out, (*o, "mlp", "router_scale"), src(p + "router.scale"))
            put(out, (*o, "mlp", "per_expert_scale"), src(p + "router.per_expert_scale"))
            put(out, (*o, "pre_ffw_norm", "scale"), src(p + "pre_feedforward_layernorm_2.weight"))
            put(out, (*o, "post_ffw1_norm", "scale"), src(p + "post_feedforward_layernorm_2.weight"))
            put(out, (*o, "post_ffw2_norm", "scale"), src(p + "post_feedforward_layernorm_1.weight"))
        if ple:
            put(out, (*o, "per_layer_input_gate", "w"), src(p + "per_layer_input_gate.weight").T)
            put(out, (*o, "per_layer_projection", "w"), src(p + "per_layer_projection.weight").T)
            put(out, (*o, "post_per_layer_input_norm", "scale"), src(p + "post_per_layer_input_norm.weight"))


def vision(src, v, out):
    p, N, K, L = "model.vision_tower.", v["num_attention_heads"], v["num_key_value_heads"], v["num_hidden_layers"]
    put(out, ("vision_encoder", "entry", "input_projection", "w"), src(p + "patch_embedder.input_proj.weight").T)
    put(out, ("vision_encoder", "entry", "pos_emb"), src(p + "patch_embedder.position_embedding_table").transpose(1, 0, 2))
    if p + "std_bias" in src:
        put(out, ("vision_encoder", "standardize", "bias"), src(p + "std_bias"))
        put(out, ("vision_encoder", "standardize", "scale"), src(p + "std_scale"))
    block = ("vision_encoder", "transformer", "stacked_layers", "block")
    stack = lambda f: np.stack([f(f"{p}encoder.layers.{i}.") for i in range(L)])
    put(out, (*block, "attn", "q_einsum", "w"), stack(lambda q: heads_in(src.linear(q + "self_attn.q_proj"), N)))
    put(out, (*block, "attn", "kv_einsum", "w"), stack(lambda q: np.stack([heads_in(src.linear(q + f"self_attn.{x}_proj"), K) for x in "kv"])))
    put(out, (*block, "attn", "attn_vec_einsum", "w"), stack(lambda q: heads_out(src.linear(q + "self_attn.o_proj"), N)))
    put(out, (*block, "attn", "query_norm", "scale"), stack(lambda q: src(q + "self_attn.q_norm.weight")))
    put(out, (*block, "attn", "key_norm", "scale"), stack(lambda q: src(q + "self_attn.k_norm.weight")))
    put(out, (*block, "mlp", "gating_einsum", "w"), stack(lambda q: np.stack([src.linear(q + "mlp.gate_proj"), src.linear(q + "mlp.up_proj")])))
    put(out, (*block, "mlp", "linear", "w"), stack(lambda q: src.linear(q + "mlp.down_proj").T))
    for o, h in (("pre_attention_norm", "input_layernorm"), ("post_attention_norm", "post_attention_layernorm"),
                 ("pre_ffw_norm", "pre_feedforward_layernorm"), ("post_ffw_norm", "post_feedforward_layernorm")):
        put(out, (*block, o, "scale"), stack(lambda q: src(f"{q}{h}.weight")))
    if p + "encoder.layers.0.self_attn.q_proj.input_min" in src:
        for o, hs in (("attn/q_einsum", ["self_attn.q_proj"]), ("attn/kv_einsum", ["self_attn.k_proj", "self_attn.v_proj"]),
                      ("attn/attn_vec_einsum", ["self_attn.o_proj"]), ("mlp/gating_einsum", ["mlp.gate_proj", "mlp.up_proj"]), ("mlp/linear", ["mlp.down_proj"])):
            for c in CLIP:
                put(out, (*block, *o.split("/"), f"clip_{c}"), stack(lambda q: src(f"{q}{hs[0]}.{c}").reshape(())))
                for h in hs[1:]:  # one set of bounds per einsum: v takes k's, up takes gate's (they agree in the release)
                    for i in range(L): src.replace(f"{p}encoder.layers.{i}.{h}.{c}", f"{p}encoder.layers.{i}.{hs[0]}.{c}")
    put(out, ("embedder", "mm_input_projection", "w"), src("model.embed_vision.embedding_projection.weight").T)


def audio(src, a, out):
    p, N = "model.audio_tower.", a["num_attention_heads"]
    f = ("audio_encoder", "feature")
    for i in (0, 1):
        put(out, (*f, f"subsampling_{i}", "kernel"), src(f"{p}subsample_conv_projection.layer{i}.conv.weight").transpose(2, 3, 1, 0))
        put(out, (*f, f"norm_{i}", "scale"), src(f"{p}subsample_conv_projection.layer{i}.norm.weight"))
    w = src(p + "subsample_conv_projection.input_proj_linear.weight"); c = a["subsampling_conv_channels"][1]
    put(out, (*f, "input_proj", "kernel"), w.reshape(w.shape[0], w.shape[1] // c, c).transpose(1, 2, 0))  # [mel/4, channels, hidden]
    put(out, ("audio_encoder", "output_projection", "kernel"), src(p + "output_proj.weight").T)
    put(out, ("audio_encoder", "output_projection", "bias"), src(p + "output_proj.bias"))
    for i in range(a["num_hidden_layers"]):
        q, o = f"{p}layers.{i}.", ("audio_encoder", f"conformer/stacked_layers_{i}")  # one key, with the slash in it

        def clipped(path, stem, w):
            put(out, (*o, *path, "kernel"), w)
            for c in CLIP:
                if f"{q}{stem}.{c}" in src: put(out, (*o, *path, f"clip_{c}"), src(f"{q}{stem}.{c}").reshape(()))
        for x, h in (("fflayer_start", "feed_forward1"), ("fflayer_end", "feed_forward2")):
            for n in (1, 2): clipped((x, f"ffn_layer{n}"), f"{h}.ffw_layer_{n}", src.linear(f"{q}{h}.ffw_layer_{n}").T)
            put(out, (*o, x, "pre_layer_norm", "scale"), src(f"{q}{h}.pre_layer_norm.weight"))
            put(out, (*o, x, "post_layer_norm", "scale"), src(f"{q}{h}.post_layer_norm.weight"))
        for x, h in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            clipped(("trans_atten", "self_atten", x), f"self_attn.{h}", src.linear(f"{q}self_attn.{h}").T)
        w = src(q + "self_attn.relative_k_proj.weight").T
        put(out, (*o, "trans_atten", "self_atten", "relative_position_embedding", "pos_proj", "kernel"), w.reshape(w.shape[0], N, -1))
        put(out, (*o, "trans_atten", "self_atten", "per_dim_scale"), src(q + "self_attn.per_dim_scale"))
        clipped(("trans_atten", "post"), "self_attn.post", heads_out(src.linear(q + "self_attn.post"), N))
        put(out, (*o, "trans_atten", "pre_norm", "scale"), src(q + "norm_pre_attn.weight"))
        put(out, (*o, "trans_atten", "post_norm", "scale"), src(q + "norm_post_attn.weight"))
        for x in ("linear_start", "linear_end"): clipped(("lconv", x), f"lconv1d.{x}", src.linear(f"{q}lconv1d.{x}").T)
        put(out, (*o, "lconv", "depthwise_conv1d", "kernel"), src(q + "lconv1d.depthwise_conv1d.weight").transpose(2, 1, 0))
        put(out, (*o, "lconv", "ln", "scale"), src(q + "lconv1d.pre_layer_norm.weight"))
        put(out, (*o, "lconv", "conv_norm", "scale"), src(q + "lconv1d.conv_norm.weight"))
        put(out, (*o, "final_ln", "scale"), src(q + "norm_out.weight"))
    put(out, ("embedder", "audio_input_projection", "w"), src("model.embed_audio.embedding_projection.weight").T)


def build(hf, rng, extras=True, bare_mlp=False):
    cfg = json.loads((Path(hf) / "config.json").read_text()); src, out = Source(hf), {}
    kind = cfg["model_type"]; multimodal = kind == "gemma4"
    prefix = "model.language_model." if multimodal else "model."
    text(src, cfg, out, prefix, rng, bare_mlp)
    if multimodal:
        if cfg.get("vision_config"): vision(src, cfg["vision_config"], out)
        if cfg.get("audio_config"): audio(src, cfg["audio_config"], out)
    if extras and multimodal:  # row 0: the end-of-image / end-of-audio embedding, before the projection
        for name, proj in (("mm_input_embedding_extra", "mm_input_projection"), ("audio_input_embedding_extra", "audio_input_projection")):
            if proj in out["embedder"]:
                put(out, ("embedder", name), rng.standard_normal((1, out["embedder"][proj]["w"].shape[0])).astype(np.float32) * 0.05)
    left = sorted(k for k in src.t if k not in src.used and k != "lm_head.weight")
    return cfg, out, left, src


def flatten(tree, path=()):
    for k, v in tree.items():
        if isinstance(v, dict): yield from flatten(v, (*path, k))
        else: yield (*path, k), v


def to_flat(tree):
    out = {}
    for path, value in flatten(tree):
        if path[0] not in ("vision_encoder", "audio_encoder") and not path[1].startswith(("mm_", "audio_")):
            out.setdefault("/".join(("transformer", *path[:-1])), {})[path[-1]] = value
    return out


def main():
    a = argparse.ArgumentParser(); a.add_argument("hf", type=Path); a.add_argument("out", type=Path); a.add_argument("--layout", default="nested", choices=["nested", "flat"])
    a.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"]); a.add_argument("--plain-zarr", action="store_true"); a.add_argument("--zarr3", action="store_true")
    a.add_argument("--no-extras", action="store_true"); a.add_argument("--bare-mlp", action="store_true"); a.add_argument("--chunks", type=int, default=0, help="largest bytes of one chunk: several chunks per array")
    a.add_argument("--write-hf", type=Path, help="also write the HF folder that OUT_DIR stands for: what a converter must produce, bit for bit")
    a.add_argument("--seed", type=int, default=0); a = a.parse_args()
    _, tree, left, src = build(a.hf, np.random.default_rng(a.seed), not a.no_extras, a.bare_mlp)
    if left: print("not carried over:", left[:5], len(left))
    if src.replaced: print("bounds changed, as one einsum has one set of them:", len(src.replaced))
    if a.write_hf:
        from safetensors.numpy import save_file
        shutil.rmtree(a.write_hf, ignore_errors=True); shutil.copytree(a.hf, a.write_hf)
        for f in a.write_hf.glob("*.safetensors*"): f.unlink()
        dt = ml_dtypes.bfloat16 if a.dtype == "bfloat16" else np.float32
        save_file({k: np.array(v, dt, order="C") for k, v in src.t.items() if k not in left}, a.write_hf / "model.safetensors", metadata={"format": "pt"})
    if a.layout != "nested": tree = to_flat(tree)
    import jax
    import jax.numpy as jnp
    import orbax.checkpoint as ocp
    dt = ml_dtypes.bfloat16 if a.dtype == "bfloat16" else np.float32
    tree = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float32).astype(dt)), tree)
    shutil.rmtree(a.out, ignore_errors=True); out = a.out.resolve()
    if a.plain_zarr or a.zarr3 or a.chunks:
        h = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=not a.plain_zarr, use_zarr3=a.zarr3))
        kw = dict(save_args=jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=a.chunks), tree)) if a.chunks else {}
        h.save(out, args=ocp.args.PyTreeSave(tree, **kw))
    else:
        c = ocp.StandardCheckpointer(); c.save(out, tree); c.wait_until_finished()  # as gm.ckpts.save_params does
    n = [v for _, v in flatten(tree)]
    print(f"{out}: {len(n)} arrays, {sum(int(np.prod(v.shape)) for v in n)} elements, {a.layout}, {a.dtype}")


if __name__ == "__main__": main()
