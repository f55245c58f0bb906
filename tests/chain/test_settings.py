"""Settings of the chain: what the environment may say, and that nothing secret is echoed."""

from pathlib import Path

import pytest

from chain.errors import SettingsError
from chain.settings import ChainSettings

KEY = "0x" + "5a" * 32


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ChainSettings.model_fields:
        monkeypatch.delenv(f"FITCHAIN_{name.upper()}", raising=False)


def test_defaults_reach_a_local_chain() -> None:
    settings = ChainSettings.load()
    assert settings.endpoints == ("http://127.0.0.1:8545",)
    assert settings.max_fee_wei == 200 * 10**9
    assert settings.journal == Path.home() / ".local/share/fitchain/journal.sqlite"
    assert not settings.has_keys


def test_environment_is_read_and_empty_means_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITCHAIN_RPC_URL", " https://one.example/v3 , http://two.example:8545,")
    monkeypatch.setenv("FITCHAIN_CHAIN_ID", "")
    monkeypatch.setenv("FITCHAIN_POOL", "0x" + "ab" * 20)
    monkeypatch.setenv("FITCHAIN_MAX_FEE_GWEI", "0.5")
    settings = ChainSettings.load()
    assert settings.endpoints == ("https://one.example/v3", "http://two.example:8545")
    assert settings.chain_id is None
    assert settings.pool == "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
    assert settings.max_fee_wei == 5 * 10**8


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FITCHAIN_RPC_URL", "ws://user:secretword@host", "must hold URLs that begin with http"),
        ("FITCHAIN_RPC_URL", " , ", "names no endpoint"),
        ("FITCHAIN_POOL", "0x1234", "40 hexadecimal digits"),
        ("FITCHAIN_POOL", "0xAbABaBaBABabABabAbAbABAbABabababaBaBABaB", "correct checksum"),
        ("FITCHAIN_MAX_FEE_GWEI", "-1", "greater than 0"),
        ("FITCHAIN_CONFIRMATIONS", "0", "greater than or equal to 1"),
    ],
)
def test_bad_values_are_named_but_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        ChainSettings.load()
    assert variable in str(caught.value)
    assert said in str(caught.value)
    assert "secretword" not in str(caught.value)


def test_secrets_are_not_in_the_repr() -> None:
    settings = ChainSettings(private_key=KEY, rpc_url="https://host/v3/0123456789abcdef0123")
    assert "5a5a" not in repr(settings)
    assert "0123456789abcdef" not in repr(settings)
    assert settings.has_keys


def test_every_setting_is_described() -> None:
    assert [name for name, field in ChainSettings.model_fields.items() if not field.description] == []
