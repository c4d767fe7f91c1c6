"""What Pillow makes of an image file, for comparing with the program read_inputs."""
import io
import warnings

from PIL import Image, ImageOps


def pillow(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    return {"height": image.height, "width": image.width, "pixels": image.tobytes().hex()}
