"""torchvision out of its wheel, which tools/setup.sh downloads and does not install: the other tests compare with the processors
that work without it. Its compiled operators belong to another build of torch, and no processor calls them."""
import sys
from pathlib import Path

WHEELS = Path(__file__).resolve().parents[2] / ".venv" / "torchvision-wheel"


def use_torchvision():
    """The library that holds the names of its operators, to be kept; None where there is no wheel."""
    wheels = sorted(WHEELS.glob("torchvision-*.whl"))
    if not wheels:
        return None
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.path.insert(0, str(wheels[-1]))
    return library
