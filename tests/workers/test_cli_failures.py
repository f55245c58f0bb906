"""From errors to exit codes: every error of the project is known, nothing secret is shown."""

from __future__ import annotations

import importlib
import json

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

import chain.errors
import compose.errors
import storage.errors
import tasks.errors
import workers.errors
from workers.cli.exits import ExitCode
from workers.cli.failures import _KNOWN, clean, failure_of


@pytest.mark.parametrize("name", sorted(_KNOWN))
def test_every_name_in_the_table_is_a_class(name: str) -> None:
    module, _, cls = name.rpartition(".")
    found = getattr(importlib.import_module(module), cls)
    assert issubclass(found, BaseException)
    assert f"{found.__module__}.{found.__qualname__}" == name


@pytest.mark.parametrize("module", [chain.errors, storage.errors, tasks.errors, workers.errors, compose.errors])
def test_every_error_of_the_project_is_known(module: object) -> None:
    classes = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert classes
    for cls in classes:
        error = cls.__new__(cls)
        assert failure_of(error).known, cls


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (chain.errors.KeystoreError("no"), ExitCode.CONFIGURATION),
        (chain.errors.ContractMissing("no"), ExitCode.CONFIGURATION),
        (chain.errors.EndpointUnavailable("no"), ExitCode.UNREACHABLE),
        (chain.errors.StepRejected("no"), ExitCode.CHAIN_REFUSED),
        (chain.errors.InsufficientFunds("no"), ExitCode.CHAIN_REFUSED),
        (chain.errors.NotMined("no"), ExitCode.TIMEOUT),
        (storage.errors.SchemaError("location", "no"), ExitCode.BAD_INPUT),
        (storage.errors.ContentNotFound("no"), ExitCode.BAD_INPUT),
        (storage.errors.SourceUnavailable("no"), ExitCode.UNREACHABLE),
        (tasks.errors.SandboxTimeout("no"), ExitCode.TIMEOUT),
        (tasks.errors.SandboxRefused("no"), ExitCode.CONFIGURATION),
        (workers.errors.BrokerUnavailable("no"), ExitCode.UNREACHABLE),
        (FileNotFoundError(2, "No such file or directory", "schema.json"), ExitCode.BAD_INPUT),
        (ConnectionRefusedError(111, "Connection refused"), ExitCode.UNREACHABLE),
        (ZeroDivisionError("division by zero"), ExitCode.INTERNAL),
    ],
)
def test_exit_codes(error: Exception, code: ExitCode) -> None:
    failure = failure_of(error)
    assert failure.code == code
    assert failure.sentence


def test_a_defect_is_called_one() -> None:
    failure = failure_of(KeyError("x"))
    assert not failure.known
    assert "--debug" in failure.hint


def test_credentials_in_addresses_are_not_shown() -> None:
    text = clean("redis://operator:geheim@cache:6379/0 and https://user:geheim@node/v1")
    assert "geheim" not in text
    assert "cache:6379/0" in text


def test_a_settings_error_names_the_variable_but_shows_no_value() -> None:
    class ExampleSettings(BaseSettings):
        port: int = 1
        token: SecretStr = SecretStr("")

    with pytest.raises(ValidationError) as caught:
        ExampleSettings(port="geheim", token=["geheim"])
    failure = failure_of(caught.value)
    assert failure.code == ExitCode.CONFIGURATION
    assert "FITCHAIN_PORT" in failure.sentence
    assert "geheim" not in failure.sentence


def test_broken_json_is_bad_input() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    assert failure_of(caught.value).code == ExitCode.BAD_INPUT
