"""Both published forms are read, and every refusal names its field and says what to write."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import DataSchema, ModelSchema, SchemaError, canonical_json, check_pair
from storage.canonical import strict_json

MODEL_CID = "QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"
DATA_CID = "QmWVZ87MXAwt5wvgsM9akHUnGE5K3SRSKMmkQtPXRsrPUk"
MODEL: dict[str, Any] = {
    "uuid": "0x0123456789",
    "type": "keras",
    "input_signature": "hgGDH7843hjds",
    "stored_as": "file",
    "format": "h5",
    "location": {"provider": "ipfs", "endpoint": MODEL_CID},
}
DATA: dict[str, Any] = {
    "uuid": "0x0123456789",
    "type": "collection",
    "input_signature": "hgGDH7843hjds",
    "format": "csv",
    "location": [{"provider": "ipfs", "endpoint": DATA_CID}],
}


def test_reference_schemas_are_read(seed_example: Path) -> None:
    model = ModelSchema.parse((seed_example / "model_schema.json").read_text())
    data = DataSchema.parse((seed_example / "data_schema.json").read_bytes())
    assert (model.cid, model.file_format, model.type) == (MODEL_CID, "h5", "keras")
    assert (data.cid, data.file_format, data.type) == (DATA_CID, "csv", "collection")
    check_pair(model, data)


def test_location_may_be_a_list_and_the_first_usable_provider_wins() -> None:
    listed = [
        {"provider": "s3", "endpoint": "bucket/key"},
        {"provider": "IPFS", "endpoint": f"ipfs://{MODEL_CID}"},
    ]
    schema = ModelSchema.parse({**MODEL, "location": listed})
    assert schema.cid == MODEL_CID
    assert [location.provider for location in schema.location] == ["s3", "ipfs"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"format": "h5", "stored_as": "file"}, "h5"),
        ({"stored_as": "h5"}, "h5"),
        ({"stored_as": "file"}, None),
        ({"format": ".HDF5"}, "h5"),
        ({"format": "Keras"}, "keras"),
        ({}, None),
    ],
)
def test_format_is_found_in_either_field(fields: dict[str, str], expected: str | None) -> None:
    base = {key: value for key, value in MODEL.items() if key not in {"format", "stored_as"}}
    assert ModelSchema.parse({**base, **fields}).file_format == expected


def test_label_and_features_are_read() -> None:
    schema = DataSchema.parse(
        {
            **DATA,
            "task": "classification",
            "label": {"column": -1, "classes": 46, "encoding": "one_hot"},
            "features": {
                "columns": ["a", 3],
                "encoding": "multi_hot",
                "size": 2000,
                "scale": 16,
                "shape": [8, 8, 1],
            },
        }
    )
    assert schema.label is not None and schema.label.column == -1 and schema.label.classes == 46
    assert schema.features is not None and schema.features.columns == ["a", 3]
    assert schema.features.scale == 16.0 and schema.features.shape == [8, 8, 1]


def test_unknown_fields_are_ignored() -> None:
    schema = DataSchema.parse({**DATA, "licence": "CC0", "label": {"column": "y", "colour": "red"}})
    assert "licence" not in schema.to_json() and "colour" not in schema.to_json()


def location(**fields: Any) -> dict[str, Any]:
    return {"location": {"provider": "ipfs", "endpoint": MODEL_CID, **fields}}


BAD_FIELDS = [
    ({"uuid": None}, "uuid"),
    ({"uuid": ""}, "uuid"),
    ({"uuid": 12}, "uuid"),
    ({"uuid": "x" * 513}, "uuid"),
    ({"type": 3}, "type"),
    ({"input_signature": None}, "input_signature"),
    ({"input_signature": ["a"]}, "input_signature"),
    ({"input_signature": ""}, "input_signature"),
    ({"format": "../../etc/passwd"}, "format"),
    ({"format": "a" * 33}, "format"),
    ({"format": 5}, "format"),
    ({"stored_as": "a file"}, "stored_as"),
    ({"location": None}, "location"),
    ({"location": "Qm…"}, "location"),
    ({"location": []}, "location"),
    ({"location": {}}, "location.provider"),
    (location(provider=1), "location.provider"),
    (location(endpoint=None), "location.endpoint"),
    (location(endpoint="Qmnonsense"), "location.endpoint"),
    (location(endpoint=MODEL_CID[:-1]), "location.endpoint"),
    (location(endpoint=MODEL_CID + "/file.h5"), "location.endpoint"),
    (location(endpoint="../" + MODEL_CID), "location.endpoint"),
    (location(endpoint="http://127.0.0.1/" + MODEL_CID), "location.endpoint"),
    ({"location": [{"provider": "s3", "endpoint": "x"}]}, "location"),
    (
        {"location": [{"provider": "ipfs", "endpoint": DATA_CID}, {"provider": "ipfs"}]},
        "location[1].endpoint",
    ),
    ({"location": [{"provider": "ipfs", "endpoint": DATA_CID}] * 17}, "location"),
    ({"task": "clustering"}, "task"),
    ({"label": "y"}, "label"),
    ({"label": {"column": 1.5}}, "label.column"),
    ({"label": {"column": True}}, "label.column"),
    ({"label": {"column": ""}}, "label.column"),
    ({"label": {"classes": "46"}}, "label.classes"),
    ({"label": {"classes": 1}}, "label.classes"),
    ({"label": {"encoding": "roman"}}, "label.encoding"),
    ({"features": []}, "features"),
    ({"features": {"columns": "all"}}, "features.columns"),
    ({"features": {"columns": []}}, "features.columns"),
    ({"features": {"columns": ["a", None]}}, "features.columns[1]"),
    ({"features": {"encoding": "text"}}, "features.encoding"),
    ({"features": {"size": 0}}, "features.size"),
    ({"features": {"size": 10**9}}, "features.size"),
    ({"features": {"scale": 0}}, "features.scale"),
    ({"features": {"scale": True}}, "features.scale"),
    ({"features": {"shape": [8, 0]}}, "features.shape[1]"),
    ({"features": {"shape": [1] * 9}}, "features.shape"),
]


@pytest.mark.parametrize(("change", "field"), BAD_FIELDS)
def test_refusal_names_the_field_and_what_to_write(change: dict[str, Any], field: str) -> None:
    document = {key: value for key, value in {**DATA, **change}.items() if value is not None or key == "location"}
    with pytest.raises(SchemaError) as refusal:
        DataSchema.parse(document)
    assert refusal.value.field == field
    assert str(refusal.value).startswith(f"{field}: ")
    assert "write" in refusal.value.problem or "at most" in refusal.value.problem
    assert not refusal.value.transient


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "broken JSON"),
        ('{"uuid": "1",', "line 1"),
        ('{"uuid": "1", "uuid": "2"}', "twice"),
        ('{"uuid": NaN}', "NaN"),
        ("[1, 2]", "object"),
        ("null", "object"),
        (b"\xff\xfe", "UTF-8"),
        ("[" * 60_000, "nested"),
        ('{"uuid": "' + "x" * 70_000 + '"}', "at most 65536"),
        ('{"uuid": "\\ud800", "type": "keras"}', "uuid"),
    ],
)
def test_broken_documents_are_refused_with_a_sentence(text: str | bytes, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        ModelSchema.parse(text)


def test_other_kinds_of_model_are_refused() -> None:
    with pytest.raises(SchemaError, match=r'type: .*write "keras"'):
        ModelSchema.parse({**MODEL, "type": "onnx"})


def test_pair_with_different_signatures_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"input_signature: .*'other'") as refusal:
        check_pair(ModelSchema.parse(MODEL), DataSchema.parse({**DATA, "input_signature": "other"}))
    assert refusal.value.field == "input_signature"


def test_schema_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(SchemaError("location.endpoint", "is missing")))
    assert (error.field, error.problem) == ("location.endpoint", "is missing")


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)
columns = names | st.integers(-1000, 1000)
labels = st.fixed_dictionaries(
    {},
    optional={
        "column": columns,
        "classes": st.integers(2, 10**6),
        "encoding": st.sampled_from(["index", "one_hot"]),
    },
)
features = st.fixed_dictionaries(
    {},
    optional={
        "columns": st.lists(columns, min_size=1, max_size=5),
        "encoding": st.sampled_from(["numeric", "multi_hot"]),
        "size": st.integers(1, 10**7),
        "scale": st.floats(1e-6, 1e6),
        "shape": st.lists(st.integers(1, 512), min_size=1, max_size=8),
    },
)


@given(
    uuid=names,
    signature=names,
    label=labels,
    features=features,
    task=st.sampled_from(["classification", None]),
)
def test_schemas_survive_their_own_json(
    uuid: str, signature: str, label: dict[str, Any], features: dict[str, Any], task: str | None
) -> None:
    document = {
        **DATA,
        "uuid": uuid,
        "input_signature": signature,
        "label": label,
        "features": features,
        "task": task,
    }
    schema = DataSchema.parse(document)
    again = DataSchema.parse(schema.to_json())
    assert again == schema
    assert again.to_json() == schema.to_json()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_reads_back_and_does_not_depend_on_order(value: Any) -> None:
    text = canonical_json(value)
    assert strict_json(text) == value
    shuffled = json.loads(text, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert canonical_json(shuffled) == text


@pytest.mark.parametrize("value", [{1: "a"}, {"a": float("nan")}, float("inf"), {"a": {2: 3}}, {"a": object()}])
def test_what_has_no_canonical_spelling_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        canonical_json(value)
