"""Imports torchvision and PyAV beside a torch that they were not built for. tools/setup.sh puts both, without what they
depend on, into .venv/video-reference, which no other test sees: transformers takes other processors where torchvision is.

Import this before transformers. torchvision registers fallbacks for operators of its compiled library at import; with that
library missing, their schemas must be there first. None of them is ever called.
"""
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".venv" / "video-reference"
if not FOLDER.is_dir():
    print(f"{FOLDER} is missing; tools/setup.sh test installs it")
    sys.exit(77)
sys.path.insert(0, str(FOLDER))

import torch

_library = torch.library.Library("torchvision", "DEF")
for _schema in ("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor",
                "qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor",
                "roi_align(Tensor input, Tensor rois, float scale, int height, int width, int ratio, bool aligned) -> Tensor",
                "deform_conv2d(Tensor x, Tensor w, Tensor o, Tensor m, Tensor b, int sh, int sw, int ph, int pw, int dh, int dw, "
                "int groups, int offset_groups, bool use_mask) -> Tensor"):
    _library.define(_schema)

import torchvision  # noqa: E402,F401


def exact_frames(path):
    """All frames of a video in the order of their times, and the rate that torchcodec's exact mode measures: the packets
    that are shown, over the time from the first one's begin to the last one's end."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        unit = stream.time_base
        times = [(p.pts if p.pts is not None else p.dts, p.duration or 0)
                 for p in container.demux(stream) if p.size and not p.is_discard]
        seconds = lambda t: float(t) * unit.numerator / unit.denominator
        span = seconds(max(t + d for t, d in times)) - seconds(min(t for t, _ in times))
        rate = len(times) / span if span else float(stream.average_rate)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        frames = sorted(container.decode(stream), key=lambda frame: frame.pts)
    return len(times), rate, frames


def upright(frame):
    """uint8 [H, W, 3]"""
    import numpy as np

    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))


def use_exact_decoder():
    """Lets transformers' processors read files by exact_frames() in torchcodec's place, whose wheel needs CUDA libraries."""
    import numpy as np
    import transformers.video_processing_utils as processing
    import transformers.video_utils as utils

    def read(path, sample_indices_fn, **_):
        count, rate, frames = exact_frames(path)
        metadata = utils.VideoMetadata(total_num_frames=count, fps=rate, duration=count / rate, video_backend="torchcodec",
                                       height=frames[0].height, width=frames[0].width)
        indices = sample_indices_fn(metadata=metadata)
        metadata.frames_indices = indices
        pixels = np.stack([upright(frames[i]) for i in indices])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), metadata

    utils.VIDEO_DECODERS["torchcodec"] = read
    utils.is_torchcodec_available = lambda: True
    processing.is_torchcodec_usable = lambda **_: True
