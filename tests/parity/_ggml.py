"""ggml and llama.cpp themselves, from npm node-llama-cpp's prebuilt libraries: their quantizers, called with ctypes."""
import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from _reference import ROOT

LIBRARIES = ROOT / "node_modules" / "@node-llama-cpp" / "linux-x64" / "bins" / "linux-x64"


class QuantizeParams(ctypes.Structure):
    """The start of llama_model_quantize_params, and room for whatever follows."""
    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int32), ("output_tensor_type", ctypes.c_int32),
                ("token_embedding_type", ctypes.c_int32), ("allow_requantize", ctypes.c_bool), ("rest", ctypes.c_char * 512)]


def is_there() -> bool:
    return (LIBRARIES / "libggml-base.so").exists()


@cache
def ggml():
    library = ctypes.CDLL(str(LIBRARIES / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return library


@cache
def llama():
    ggml()
    for path in (*LIBRARIES.glob("libggml.*so"), *LIBRARIES.glob("libllama.*so")):
        library = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    library.llama_model_quantize_default_params.restype = QuantizeParams
    library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(QuantizeParams)]
    library.llama_model_quantize.restype = ctypes.c_uint32
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    library.silent = silent  # lives as long as the library
    library.llama_log_set(silent, None)
    library.llama_backend_init()
    return library


def quantize_rows(values: np.ndarray, kind: GGMLQuantizationType) -> np.ndarray:
    """Rows of packed bytes, as ggml makes them."""
    values = np.ascontiguousarray(values, np.float32)
    elements, size = GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    out = np.empty((rows, columns // elements * size), np.uint8)
    ggml().ggml_quantize_chunk(kind, values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    return out


def quantize_file(source: Path, out: Path, file_type: int, requantize=False):
    """What llama-quantize makes of a GGUF file."""
    params = llama().llama_model_quantize_default_params()
    params.nthread, params.ftype, params.allow_requantize = 1, file_type, requantize
    code = llama().llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
    if code != 0:
        raise SystemExit(f"llama_model_quantize on {source}: {code}")
