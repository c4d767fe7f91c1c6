"""Copies the demo's images (from scikit-image's wheel) and audio clips (from Debian's alsa-utils) into demo/assets."""
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDINGS = Path("/usr/share/sounds/alsa")


def picture_folder():
    # Found without importing scikit-image: its code needs packages that its images do not.
    for folder in map(Path, sys.path):
        if (folder / "skimage" / "data").is_dir():
            return folder / "skimage" / "data"
    sys.exit("demo: scikit-image is not installed in this Python; run `tools/setup.sh demo`")


def main():
    sources = {".wav": RECORDINGS, ".png": picture_folder(), ".jpg": picture_folder()}
    assets = HERE / "assets"
    assets.mkdir(exist_ok=True)
    for line in (HERE / "train.jsonl").read_text().splitlines():
        for part in json.loads(line)["messages"][0]["content"]:
            if "path" not in part:
                continue
            source = sources[Path(part["path"]).suffix] / part["path"]
            if not source.is_file():
                sys.exit(f"demo: {source} is missing; run `tools/setup.sh demo`")
            shutil.copyfile(source, assets / part["path"])


if __name__ == "__main__":
    main()
