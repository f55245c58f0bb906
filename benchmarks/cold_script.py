"""The reference example evaluated by hand, as one would write it without this project: the floor of `ad-hoc`.

    python cold_script.py model_params.h5 test.csv

Plain Keras, h5py and pandas, nothing of ours. Keras 3 does not load this file as it is (its configuration is that of
Keras 2.2), so the network is written out and the weights are read into it. Run as a script it costs what a cold process
costs; `benchmarks.warm_keras` calls the same function in a process that has imported everything.
"""

from __future__ import annotations

import sys

import h5py
import keras
import numpy as np
import pandas as pd

WORDS = 2000
CLASSES = 46


def load_model(path: str) -> keras.Model:
    """The classifier: three hidden layers between 2000 words and 46 classes."""
    model = keras.Sequential([keras.Input((WORDS,))])
    for units, rate in ((128, 0.05), (64, 0.2), (32, 0.2)):
        model.add(keras.layers.Dense(units, activation="relu"))
        model.add(keras.layers.Dropout(rate))
    model.add(keras.layers.Dense(CLASSES, activation="softmax"))
    with h5py.File(path) as file:
        weights = []
        for number in range(1, 5):
            group = file[f"model_weights/dense_{number}/dense_{number}"]
            weights += [group["kernel:0"][()], group["bias:0"][()]]
    model.set_weights(weights)
    return model


def read_data(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Words of each row as a vector of zeros and ones, and the row's class."""
    frame = pd.read_csv(path)
    indices = frame.iloc[:, :-1].to_numpy().astype(int)
    words = np.zeros((len(frame), WORDS), dtype="float32")
    words[np.arange(len(frame))[:, None], indices] = 1
    return words, frame.iloc[:, -1].to_numpy().astype(int)


def verify(model_path: str, data_path: str) -> tuple[float, float]:
    """Accuracy and loss."""
    model = load_model(model_path)
    words, classes = read_data(data_path)
    predicted = model.predict(words, verbose=0)
    accuracy = float((predicted.argmax(axis=1) == classes).mean())
    chosen = predicted[np.arange(len(classes)), classes].astype("float64")
    loss = float(-np.log(np.clip(chosen, 1e-7, 1)).mean())
    return accuracy, loss


if __name__ == "__main__":
    print(*verify(sys.argv[1], sys.argv[2]))
