"""`verify` on the reference example, and every input that cannot be verified: exit code, sentence, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workers.command import Command, Finished
from workers.cli.exits import ExitCode

ABSENT = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, seed_example: Path) -> Command:
    """The command with an embedded store that holds both files of the example."""
    made = Command(tmp_path_factory.mktemp("verify"), {})
    stored = made("publish", seed_example / "model_params.h5", seed_example / "test.csv")
    assert stored.code == 0, stored.err
    return made


def changed(command: Command, source: Path, **changes: object) -> Path:
    """A schema of the example with some fields changed."""
    path = command.folder / f"changed-{source.name}"
    path.write_text(json.dumps(json.loads(source.read_text()) | changes))
    return path


def verify(command: Command, model: object, data: object, *options: object) -> tuple[int, str, str]:
    done = command("verify", "--model", model, "--data", data, *options)
    return done.code, done.out, done.err


@pytest.fixture(scope="module")
def reference(command: Command, seed_example: Path) -> Finished:
    """The example verified once, with its report in `report.json` and `report.html`."""
    return command(
        *("verify", "--model", seed_example / "model_schema.json", "--data", seed_example / "data_schema.json"),
        *("--json", "--save-report", "report.json", "--html", "report.html"),
    )


def test_the_reference_example(command: Command, reference: Finished) -> None:
    assert reference.code == 0, reference.err
    result = reference.json()
    assert (result["verdict"], result["score"]) == ("valid", 675_127)
    assert result["value"] == pytest.approx(266 / 394, abs=1e-12)
    evaluation = result["report"]["evaluation"]
    assert (evaluation["correct"], evaluation["rows"], evaluation["classes"]) == (266, 394, 46)
    assert evaluation["metrics"]["log_loss"] == pytest.approx(2.004036, abs=5e-7)
    assert json.loads((command.folder / "report.json").read_text()) == result["report"]
    assert "0.675127" in (command.folder / "report.html").read_text()


def test_a_mark_that_is_missed_ends_with_1_and_says_so(command: Command, seed_example: Path) -> None:
    code, out, err = verify(
        command,
        seed_example / "model_schema.json",
        (seed_example / "data_schema.json").read_text(),
        *("--metric", "log-loss", "--pass-mark", "2.0"),
    )
    assert code == ExitCode.NEGATIVE, err
    for expected in ("2004036", "log_loss", "2.004036", "266 of 394", "missed: at or below 2.000000", "inferred"):
        assert expected in out


def test_broken_json(command: Command, seed_example: Path) -> None:
    broken = command.folder / "broken.json"
    broken.write_text('{"uuid": "m",')
    code, out, err = verify(command, broken, seed_example / "data_schema.json", "--json")
    assert code == ExitCode.BAD_INPUT
    assert json.loads(out)["rule"] == "schema"
    assert "line 1" in json.loads(out)["reason"]
    assert err == ""


def test_a_schema_that_lacks_a_field_is_told_which(command: Command, seed_example: Path) -> None:
    model = changed(command, seed_example / "model_schema.json", location={"provider": "ipfs"})
    code, out, _ = verify(command, model, seed_example / "data_schema.json")
    assert code == ExitCode.BAD_INPUT
    assert "location.endpoint" in out


def test_another_input_signature(command: Command, seed_example: Path) -> None:
    data = changed(command, seed_example / "data_schema.json", input_signature="other")
    code, out, _ = verify(command, seed_example / "model_schema.json", data)
    assert code == ExitCode.BAD_INPUT
    assert "input_signature" in out
    assert "'other'" in out


def test_a_cid_that_nobody_has(command: Command, seed_example: Path) -> None:
    data = changed(command, seed_example / "data_schema.json", location={"provider": "ipfs", "endpoint": ABSENT})
    code, out, err = verify(command, seed_example / "model_schema.json", data)
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert ABSENT in err
    assert "publish" in err


def test_a_schema_by_a_cid_that_nobody_has(command: Command, seed_example: Path) -> None:
    code, _, err = verify(command, ABSENT, seed_example / "data_schema.json")
    assert code == ExitCode.BAD_INPUT
    assert ABSENT in err


def test_a_file_that_is_not_there(command: Command, seed_example: Path) -> None:
    code, out, err = verify(command, "no_such_schema.json", seed_example / "data_schema.json")
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert "no_such_schema.json" in err
    assert "CID" in err


def test_an_unknown_metric(command: Command, seed_example: Path) -> None:
    code, _, err = verify(
        command, seed_example / "model_schema.json", seed_example / "data_schema.json", "--metric", "beauty"
    )
    assert code == ExitCode.BAD_INPUT
    assert "accuracy" in err


def test_a_model_that_is_none_is_invalid(command: Command, seed_example: Path) -> None:
    noise = command.folder / "noise.h5"
    noise.write_bytes(b"this is no model")
    cid = command("publish", noise, "--json").json()[0]["cid"]
    model = changed(command, seed_example / "model_schema.json", location={"provider": "ipfs", "endpoint": cid})
    code, out, err = verify(command, model, seed_example / "data_schema.json")
    assert code == ExitCode.NEGATIVE, err
    assert "invalid" in out
    assert "reason" in out


def test_a_node_that_is_down(command: Command, seed_example: Path) -> None:
    down = command.with_settings(ipfs_api="http://127.0.0.1:9", store_dir=str(command.folder / "elsewhere"))
    code, _, err = verify(down, seed_example / "model_schema.json", seed_example / "data_schema.json")
    assert code == ExitCode.UNREACHABLE
    assert "127.0.0.1:9" in err
    assert "FITCHAIN_IPFS_API" in err


def test_a_setting_that_makes_no_sense(command: Command, seed_example: Path) -> None:
    odd = command.with_settings(evaluation_seconds="soon")
    code, _, err = verify(odd, seed_example / "model_schema.json", seed_example / "data_schema.json")
    assert code == ExitCode.CONFIGURATION
    assert "FITCHAIN_EVALUATION_SECONDS" in err


def test_an_evaluation_that_takes_too_long(command: Command, seed_example: Path) -> None:
    hasty = command.with_settings(evaluation_seconds="0.01")
    code, _, err = verify(hasty, seed_example / "model_schema.json", seed_example / "data_schema.json")
    assert code == ExitCode.TIMEOUT, err
    assert "FITCHAIN_EVALUATION_SECONDS" in err


def test_a_traceback_only_on_demand(command: Command) -> None:
    import subprocess
    import sys

    line = [sys.executable, "-m", "workers.cli", "--debug", "verify", "--model", "nowhere", "--data", "nowhere"]
    done = subprocess.run(line, env=command.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "Traceback" in done.stderr


def test_publishing_a_pair_makes_schemas_that_fit(command: Command, seed_example: Path) -> None:
    done = command(
        *("publish", "--model", seed_example / "model_params.h5", "--data", seed_example / "test.csv"),
        *("--label", "1032", "--classes", "46", "--label-encoding", "index", "--encoding", "multi_hot"),
        *("--size", "2000", "--task", "classification", "--check", "--json"),
    )
    assert done.code == 0, done.err
    model, data = done.json()
    assert model["asset_cid"] == "QmZFwmSaniaqGaw8r7PxYDBkkoTUbTibSsDpRetRrBFMKi"
    assert data["asset_cid"] == "QmWVZ87MXAwt5wvgsM9akHUnGE5K3SRSKMmkQtPXRsrPUk"
    assert model["schema"]["input_signature"] == data["schema"]["input_signature"]
    assert data["schema"]["label"] == {"column": 1032, "classes": 46, "encoding": "index"}
    assert "accuracy 0.675127" in done.err  # what --check found with these very schemas


def test_a_pair_that_does_not_fit_is_not_registered(command: Command, seed_example: Path) -> None:
    data = command.folder / "small.csv"
    data.write_text("1,2,99\n3,4,7\n")  # the model has 46 classes
    done = command(*("publish", "--model", seed_example / "model_params.h5", "--data", data, "--check", "--register"))
    assert done.code == ExitCode.NEGATIVE
    assert "nothing was registered" in done.err


def test_a_folder_is_published_and_a_schema_of_nonsense_is_not(command: Command) -> None:
    folder = command.folder / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    assert command("publish", folder, "--json").json()[0]["kind"] == "folder"
    (folder / "weights.bin").write_text("x")
    unknown = command("publish", "--model", folder / "weights.bin")
    assert unknown.code == ExitCode.BAD_INPUT
    assert "--format" in unknown.err


def test_a_report_is_shown_as_a_page_and_an_unsigned_one_is_not_authentic(
    command: Command, reference: Finished, seed_example: Path
) -> None:
    assert reference.code == 0
    cid = command("publish", "report.json", "--json").json()[0]["cid"]
    assert command("report", "show", cid, "--html", "page.html").code == 0
    assert "0.675127" in (command.folder / "page.html").read_text()
    checked = command("report", "verify", cid, "--json")
    assert checked.code == ExitCode.NEGATIVE
    assert checked.json()["authentic"] is False
    assert command("report", "verify", seed_example / "model_schema.json").code == ExitCode.BAD_INPUT
