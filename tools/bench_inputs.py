"""The tensors that engines are timed on: random token ids, labels, images and audio clips, from fixed seeds."""
import torch
from safetensors.torch import load_file, save_file

IMAGE, AUDIO, IGNORE = 258_880, 258_881, -100


def suffix(ids, count):
    """Labels on the last `count` tokens."""
    labels = ids.clone()
    labels[:, : ids.shape[1] - count] = IGNORE
    return labels


def turns(ids, count, number=4):
    """Labels at the end of each of `number` equal turns, `count` in all."""
    labels = torch.full_like(ids, IGNORE)
    turn, labelled = ids.shape[1] // number, count // number
    for end in range(turn, turn * number + 1, turn):
        labels[:, end - labelled : end] = ids[:, end - labelled : end]
    return labels


def chats(generator, number=64, shortest=20, longest=1200):
    """Chats padded on the right to the longest; the last quarter of each, its answer, is labelled."""
    spread = torch.linspace(0, 1, number)[torch.randperm(number, generator=generator)]
    lengths = (shortest * (longest / shortest) ** spread).round().long()
    ids, labels = torch.zeros(number, longest, dtype=torch.long), torch.full((number, longest), IGNORE)
    for row, length in enumerate(lengths.tolist()):
        ids[row, :length] = torch.randint(3, 250_000, (length,), generator=generator)
        labels[row, length - length // 4 : length] = ids[row, length - length // 4 : length]
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return dict(input_ids=ids, labels=labels, attention_mask=mask, mm_token_type_ids=torch.zeros_like(ids))


def samples(generator, number=4, length=300):
    """Samples of one length; the last quarter of each is labelled."""
    ids = torch.randint(3, 250_000, (number, length), generator=generator)
    return dict(input_ids=ids, labels=suffix(ids, length // 4), attention_mask=torch.ones_like(ids), mm_token_type_ids=torch.zeros_like(ids))


def make(task="text", tokens=512, label_tokens=128, seed=0):
    """What a processor would give for one row (of `chats`: for 64, of `samples`: for 4), by name, with `labels`."""
    generator = torch.Generator().manual_seed(seed)
    if task == "chats":
        return chats(generator)
    if task == "samples":
        return samples(generator)
    ids = torch.randint(3, 250_000, (1, tokens), generator=generator)
    kinds, media = torch.zeros_like(ids), {}
    if task == "image":  # 48 x 48 patches, 256 soft tokens
        ids[0, 4:260], kinds[0, 4:260] = IMAGE, 1
        y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
        media = dict(pixel_values=torch.rand(1, 2304, 768, generator=generator), image_position_ids=torch.stack([x, y], -1).reshape(1, 2304, 2))
    if task == "audio":  # 10.24 s, 256 soft tokens
        ids[0, 4:260], kinds[0, 4:260] = AUDIO, 3
        media = dict(input_features=torch.randn(1, 1024, 128, generator=generator), input_features_mask=torch.ones(1, 1024, dtype=torch.bool))
    labels = turns(ids, label_tokens) if task == "scattered" else suffix(ids, label_tokens)
    return dict(input_ids=ids, mm_token_type_ids=kinds, attention_mask=torch.ones_like(ids), labels=labels, **media)


def save(inputs, path):
    save_file({f"in.{key}": value.contiguous() for key, value in inputs.items()}, path)


def load(path):
    return {key.removeprefix("in."): value for key, value in load_file(path).items()}


def file(folder, **made):
    """The file of these inputs in `folder`, made when it is first asked for."""
    path = folder / ("-".join(str(value) for value in made.values()) + ".safetensors")
    if not path.exists():
        save(make(**made), path)
    return path
