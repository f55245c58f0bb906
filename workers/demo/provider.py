"""The compute provider and the curator of the demonstration: they train on real data and write the files.

Run as `python -m workers.demo.provider FOLDER`; prints a JSON line for each step, so that the demonstration can show
progress without importing TensorFlow itself. The data are the 1,797 handwritten digits of 8 × 8 pixels that
scikit-learn bundles (UCI Optical Recognition of Handwritten Digits); a quarter of them is held back for the test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

HONEST_MODEL: Final = "honest.keras"
LAZY_MODEL: Final = "lazy.keras"
BROKEN_MODEL: Final = "broken.keras"
TEST_DATA: Final = "digits.csv"

PIXEL_SCALE: Final = 16.0
CLASSES: Final = 10
EPOCHS: Final = 25
SEED: Final = 7


def main(folder: Path) -> None:
    """Train, and write three model files and the test data into the folder."""
    import keras
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    _say("load", "1,797 handwritten digits")
    pixels, labels = load_digits(return_X_y=True)
    seen, held_back, seen_labels, held_back_labels = train_test_split(
        pixels, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    keras.utils.set_random_seed(SEED)
    model = _model(keras)
    for epoch in range(1, EPOCHS + 1):
        history = model.fit(seen / PIXEL_SCALE, seen_labels, epochs=1, batch_size=32, verbose=0)
        _say("train", f"epoch {epoch}/{EPOCHS}, accuracy {history.history['accuracy'][-1]:.3f}", epoch / EPOCHS)
    model.save(folder / HONEST_MODEL)

    # Trained for an instant and claimed to be just as good: the claim is what the verifiers refute.
    lazy = _model(keras)
    lazy.fit(seen[:64] / PIXEL_SCALE, seen_labels[:64], epochs=1, verbose=0)
    lazy.save(folder / LAZY_MODEL)

    whole = (folder / HONEST_MODEL).read_bytes()
    (folder / BROKEN_MODEL).write_bytes(whole[: len(whole) // 2])
    write_csv(folder / TEST_DATA, held_back, held_back_labels)
    _say("write", f"three models and {len(held_back_labels)} test rows", 1.0)


def write_csv(path: Path, pixels: Any, labels: Any) -> None:
    """One row a digit: 64 pixels of 0…16, then the class."""
    header = [f"pixel_{index}" for index in range(pixels.shape[1])] + ["digit"]
    rows = (
        ",".join([*(f"{value:g}" for value in row), str(int(label))]) for row, label in zip(pixels, labels, strict=True)
    )
    path.write_text("\n".join([",".join(header), *rows]) + "\n", encoding="utf-8")


def _model(keras: Any) -> Any:
    model = keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _say(step: str, text: str, share: float = 0.0) -> None:
    sys.stdout.write(json.dumps({"step": step, "text": text, "share": share}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
