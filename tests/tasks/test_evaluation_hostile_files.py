"""HDF5 files and zip archives that are cut, bombs, or point out of themselves, each refused by its rule."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tasks.evaluations import judge_hostile, keras_file, rewrite_zip, small_h5, write_csv

KERNEL = np.ones((4, 3), np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(2)
    return write_csv(tmp_path / "data.csv", random.normal(size=(6, 4)), random.integers(0, 3, size=6))


def _small(folder: Path) -> Path:
    return small_h5(folder / "m.h5")


def _junk(folder: Path) -> Path:
    (folder / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff" * 200)
    return folder / "m.h5"


def _changed(change: Callable[[Any], None]) -> Callable[[Path], Path]:
    return lambda folder: small_h5(folder / "m.h5", change=change)


def _keras(change: Callable[[dict[str, bytes]], Any]) -> Callable[[Path], Path]:
    return lambda folder: rewrite_zip(keras_file(folder), folder / "bad.keras", change)


def _external_link(file: Any) -> None:
    import h5py

    del file["model_weights/dense/dense/bias:0"]
    file["model_weights/dense/dense/bias:0"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_link(file: Any) -> None:
    import h5py

    file["model_weights/dense/loop"] = h5py.SoftLink("/model_weights")


def _external_storage(file: Any) -> None:
    group = file["model_weights/dense/dense"]
    del group["bias:0"]
    group.create_dataset("bias:0", shape=(3,), dtype="f4", external=[("/etc/passwd", 0, 12)])


def _virtual(file: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(3,))
    group = file["model_weights/dense/dense"]
    del group["bias:0"]
    group.create_virtual_dataset("bias:0", layout)


def _packed_bomb(file: Any) -> None:
    file.create_dataset("bomb", shape=(2**34,), dtype="f4", chunks=(2**20,), compression="gzip")


def _unwritten_bomb(file: Any) -> None:
    file.create_dataset("bomb", shape=(2**30,), dtype="f4")


def _chunk_bomb(file: Any) -> None:
    group = file["model_weights/dense/dense"]
    del group["bias:0"]
    group.create_dataset("bias:0", shape=(3,), maxshape=(None,), dtype="f4", chunks=(2**28,), compression="gzip")


def _foreign_filter(file: Any) -> None:
    import h5py

    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3,))
    properties.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((3,))
    h5py.h5d.create(file.id, b"packed", h5py.h5t.IEEE_F32LE, space, properties)


def _reference(file: Any) -> None:
    import h5py

    file.create_dataset("pointer", data=file["model_weights"].ref, dtype=h5py.ref_dtype)


def _deep_groups(file: Any) -> None:
    file.create_group("/".join("g" * 60))


def _twice(file: Any) -> None:
    file["model_weights"].attrs["layer_names"] = [b"dense", b"dense"]


def _renamed(file: Any) -> None:
    file["model_weights"].attrs["layer_names"] = [b"other"]


def _transposed(file: Any) -> None:
    group = file["model_weights/dense/dense"]
    del group["kernel:0"]
    group.create_dataset("kernel:0", data=KERNEL.T)


def _no_bias(file: Any) -> None:
    del file["model_weights/dense/dense/bias:0"]


def _text_weights(file: Any) -> None:
    group = file["model_weights/dense/dense"]
    del group["bias:0"]
    group.create_dataset("bias:0", data=np.array([b"a", b"b", b"c"]))


def _swap_weights(members: dict[str, bytes]) -> None:
    members["model.weights.h5"] = b"\x89HDF\r\n\x1a\n" + b"\0" * 100


def _weights_of_another(members: dict[str, bytes]) -> None:
    import io

    import h5py

    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "a") as file:
        group = file["layers/dense/vars"]
        del group["0"]
        group["0"] = KERNEL.T
    members["model.weights.h5"] = buffer.getvalue()


def _weights_missing(members: dict[str, bytes]) -> None:
    import io

    import h5py

    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "a") as file:
        del file["layers/dense"]
    members["model.weights.h5"] = buffer.getvalue()


def _link_in_weights(members: dict[str, bytes]) -> None:
    import io

    import h5py

    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "a") as file:
        file["layers/dense/vars/9"] = h5py.ExternalLink("/etc/passwd", "/")
    members["model.weights.h5"] = buffer.getvalue()


def _duplicate(folder: Path) -> Path:
    path = keras_file(folder)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("config.json", "{}")
    return path


def _zip_bomb(folder: Path) -> Path:
    path = folder / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (64 * 2**20))
        archive.writestr("model.weights.h5", b"")
    return path


def _lying_zip(factor: float) -> Callable[[Path], Path]:
    """A member whose entry in the directory declares another size than it unpacks to."""

    def make(folder: Path) -> Path:
        path = keras_file(folder)
        content = bytearray(path.read_bytes())
        at = content.index(b"PK\x01\x02")
        size = struct.unpack_from("<I", content, at + 24)[0]
        struct.pack_into("<I", content, at + 24, int(size * factor))
        path.write_bytes(content)
        return path

    return make


def _cut(make: Callable[[Path], Path], keep: float) -> Callable[[Path], Path]:
    def cut(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        return path

    return cut


CASES: list[tuple[str, str, Callable[[Path], Path]]] = [
    # cut and scribbled
    ("only a signature", "hdf5-damaged", _junk),
    ("cut h5", "hdf5-damaged", _cut(_small, 0.6)),
    ("cut keras", "zip-damaged", _cut(keras_file, 0.6)),
    # HDF5
    ("external link", "hdf5-link", _changed(_external_link)),
    ("soft link", "hdf5-link", _changed(_soft_link)),
    ("external storage", "hdf5-external-storage", _changed(_external_storage)),
    ("virtual data set", "hdf5-virtual", _changed(_virtual)),
    ("packed bomb", "hdf5-bomb", _changed(_packed_bomb)),
    ("unwritten bomb", "hdf5-bomb", _changed(_unwritten_bomb)),
    ("chunk bomb", "hdf5-bomb", _changed(_chunk_bomb)),
    ("foreign filter", "hdf5-filter", _changed(_foreign_filter)),
    ("reference", "hdf5-type", _changed(_reference)),
    ("deep groups", "hdf5-too-complex", _changed(_deep_groups)),
    ("a layer twice", "weights-mismatch", _changed(_twice)),
    ("weights of another layer", "weights-missing", _changed(_renamed)),
    ("transposed kernel", "weights-mismatch", _changed(_transposed)),
    ("no bias", "hdf5-missing", _changed(_no_bias)),
    ("text for weights", "weights-mismatch", _changed(_text_weights)),
    # zip
    ("traversal", "zip-member", _keras(lambda members: members.update({"../../evil": b"x"}))),
    ("absolute path", "zip-member", _keras(lambda members: members.update({"/etc/cron.d/x": b"x"}))),
    ("assets", "zip-member", _keras(lambda members: members.update({"assets/vocabulary.txt": b"x"}))),
    ("a member twice", "zip-duplicate", _duplicate),
    ("zip bomb", "zip-bomb", _zip_bomb),
    ("member that is longer than declared", "zip-damaged", _lying_zip(0.5)),
    ("member that is shorter than declared", "zip-damaged", _lying_zip(2)),
    ("member that declares what no packing can hold", "zip-bomb", _lying_zip(2_000)),
    ("weights that are none", "hdf5-damaged", _keras(_swap_weights)),
    ("weights of another shape", "weights-mismatch", _keras(_weights_of_another)),
    ("weights left out", "weights-mismatch", _keras(_weights_missing)),
    ("link in the weights", "hdf5-link", _keras(_link_in_weights)),
]


@pytest.mark.parametrize(("name", "rule", "make"), CASES, ids=[case[0] for case in CASES])
def test_hostile_container(tmp_path: Path, data: Path, name: str, rule: str, make: Callable[[Path], Path]) -> None:
    judge_hostile(make(tmp_path), data, rule)
