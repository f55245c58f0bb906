"""The numerical runtime: imported once, set up the same way for every evaluation, described in every result.

Here live what a fork server imports before it forks, how TensorFlow is told to compute (float32, no TF32,
deterministic operations, a fixed number of threads), and what the result says of it. `warm_imports` touches
no device, runs no operation and leaves no thread behind, as a child that is forked afterwards would hang; the
environment for that (BLAS and Arrow without threads of their own) is set by `tasks.sandbox.launch`.
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import sys
from pathlib import Path

from tasks.errors import EvaluationError

_MODULES = (
    "numpy",
    "h5py",
    "pandas",
    "pyarrow",
    "pyarrow.csv",
    "pyarrow.parquet",
    "tensorflow",
    "keras",
    "tasks.evaluation.data.csv_table",
    "tasks.evaluation.data.parquet_table",
)
_INSTRUCTIONS = [
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "neon",
    "asimd",
    "sve",
]


def warm_imports() -> None:
    """Import everything that an evaluation needs; run nothing."""
    for name in _MODULES:
        importlib.import_module(name)
    import keras

    for layer in ("Dense", "Conv2D", "LSTM", "MultiHeadAttention"):  # Keras loads some of itself at first use
        getattr(keras.layers, layer)
    _cpuinfo()


def configure(threads: int) -> None:
    """Set TensorFlow up for an evaluation, before its first operation.

    In a process that has computed before, the number of threads can no longer change; `describe` tells the
    one in force. Raises EvaluationError if Keras runs on another backend.
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise EvaluationError(
            f"Keras runs on {keras.backend.backend()!r} in this process; set KERAS_BACKEND=tensorflow"
        )
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # the runtime has started already
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.disable_traceback_filtering()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)


def start() -> None:
    """Bring the device up: the first operation of a process."""
    import tensorflow as tf

    tf.zeros(1)


def describe(batch_size: int | None) -> dict[str, str]:
    """Versions, device, instruction set and settings, as text."""
    import h5py
    import keras
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import tensorflow as tf

    devices = [device.device_type for device in tf.config.list_logical_devices()]
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "pyarrow": pa.__version__,
        "h5py": h5py.__version__,
        "backend": keras.backend.backend(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "instructions": " ".join(_instructions()),
        "device": "GPU" if "GPU" in devices else "CPU",
        "onednn": "on" if _onednn() else "off",
        "tf32": "on" if tf.config.experimental.tensor_float_32_execution_enabled() else "off",
        "deterministic": "on",
        "dtype_policy": keras.config.dtype_policy().name,
        "threads": str(tf.config.threading.get_intra_op_parallelism_threads()),
        "batch_size": str(batch_size or 0),
    }


def _onednn() -> bool:
    """Told by the environment alone, which TensorFlow itself reads; nothing is decided by it here."""
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") not in ("0", "false")


@functools.cache
def _cpuinfo() -> dict[str, str]:
    if not sys.platform.startswith("linux"):
        return {}
    fields: dict[str, str] = {}
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if not name.strip():
                    break
                fields[name.strip()] = value.strip()
    except OSError:
        pass  # a sandbox may hide it; the report then says so by an empty entry
    return fields


def _processor() -> str:
    return _cpuinfo().get("model name", "") or platform.processor()


def _instructions() -> list[str]:
    fields = _cpuinfo()
    present = set((fields.get("flags") or fields.get("Features") or "").split())
    return [name for name in _INSTRUCTIONS if name in present]
