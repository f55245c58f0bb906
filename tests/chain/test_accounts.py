"""Signers: encrypted keyfiles, development keys, and that no key ever shows."""

import copy
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hexbytes import HexBytes
from pydantic import SecretStr

from chain.accounts import LocalSigner, Signer, create_keystore, load_signers, open_keystore, signer_for
from chain.errors import KeystoreError, UnknownAccount
from chain.settings import ChainSettings

KEY = bytes(range(1, 33))
ADDRESS = str(Account.from_key(KEY).address)
OTHER_KEY = bytes(range(2, 34))
PASSWORD = "correct horse"


def keyfile(path: Path, key: bytes = KEY, password: str = PASSWORD, kdf: str = "pbkdf2") -> Path:
    """A keyfile that is cheap to open: the cost of its key derivation is not what these tests are about."""
    path.write_text(json.dumps(Account.encrypt(key, password, kdf=kdf, iterations=2)))  # type: ignore[arg-type]
    return path


def password_file(path: Path, password: str = PASSWORD, mode: int = 0o600) -> Path:
    path.write_text(password + "\n")
    path.chmod(mode)
    return path


def settings(**values: Any) -> ChainSettings:
    return ChainSettings(**{"keystore": None, "keystore_password_file": None, "private_key": None, **values})


def test_created_keystore_opens_again_and_is_private(tmp_path: Path) -> None:
    place = tmp_path / "key.json"
    address = create_keystore(place, PASSWORD, private_key=KEY)
    assert address == ADDRESS
    assert place.stat().st_mode & 0o777 == 0o600
    assert json.loads(place.read_text())["crypto"]["kdf"] == "scrypt"
    assert open_keystore(place, PASSWORD).address == ADDRESS
    with pytest.raises(KeystoreError, match="exists already"):
        create_keystore(place, PASSWORD)
    with pytest.raises(KeystoreError, match="must not be empty"):
        create_keystore(tmp_path / "other.json", "")


def test_new_keys_differ_and_are_named_in_a_folder(tmp_path: Path) -> None:
    first, second = create_keystore(tmp_path, PASSWORD), create_keystore(tmp_path, PASSWORD)
    assert first != second
    names = [entry.name for entry in tmp_path.iterdir()]
    assert all(name.startswith("UTC--") for name in names)
    assert {name.rpartition("--")[2] for name in names} == {first.lower()[2:], second.lower()[2:]}


def test_folder_of_keyfiles_with_common_and_own_password(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    keyfile(folder / "a.json")
    keyfile(folder / "b.json", OTHER_KEY, "another one ")
    password_file(folder / "b.json.password", "another one ")  # the blank belongs to the password
    (folder / ".hidden").write_text("not a keyfile")
    signers = load_signers(settings(keystore=folder, keystore_password_file=password_file(tmp_path / "password")))
    assert set(signers) == {ADDRESS, str(Account.from_key(OTHER_KEY).address)}
    assert signer_for(signers, ADDRESS.lower()).address == ADDRESS
    with pytest.raises(UnknownAccount, match=ADDRESS):
        signer_for(signers, "0x" + "00" * 20)


def test_development_keys_come_from_a_list() -> None:
    keys = SecretStr(f"0x{KEY.hex()}, {OTHER_KEY.hex()},")
    assert list(load_signers(settings(private_key=keys))) == [
        ADDRESS,
        str(Account.from_key(OTHER_KEY).address),
    ]
    assert load_signers(settings()) == {}


def test_wrong_password_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    place = keyfile(tmp_path / "a.json")
    wrong = " ".join(("wrong", "battery"))  # in pieces: tracebacks quote the lines of this test
    with pytest.raises(KeystoreError) as caught:
        load_signers(settings(keystore=place, keystore_password_file=password_file(tmp_path / "p", wrong)))
    assert str(place) in str(caught.value)
    assert "FITCHAIN_KEYSTORE_PASSWORD_FILE" in str(caught.value)
    assert wrong not in "".join(traceback.format_exception(caught.value))
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "is no keyfile"),
        ("[1]", "is no keyfile"),
        ("x" * 70_000, "is no keyfile"),
        ('{"crypto": {}, "version": 3}', "is damaged"),
        ('{"crypto": {}, "version": 9}', "is damaged"),
        ('{"crypto": 5}', "is damaged"),
    ],
)
def test_damaged_keyfiles_are_named(tmp_path: Path, content: str, said: str) -> None:
    place = tmp_path / "a.json"
    place.write_text(content)
    with pytest.raises(KeystoreError, match=said) as caught:
        open_keystore(place, PASSWORD)
    assert str(place) in str(caught.value)


def test_keyfile_that_claims_another_address_is_refused(tmp_path: Path) -> None:
    place = keyfile(tmp_path / "a.json")
    content = json.loads(place.read_text())
    place.write_text(json.dumps({**content, "address": "00" * 20}))
    with pytest.raises(KeystoreError, match=f"belongs to {ADDRESS}"):
        open_keystore(place, PASSWORD)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="There is no keyfile at"):
        load_signers(settings(keystore=tmp_path / "none.json"))
    with pytest.raises(KeystoreError, match="holds no keyfile"):
        load_signers(settings(keystore=tmp_path))
    place = keyfile(tmp_path / "a.json")
    with pytest.raises(KeystoreError, match="There is no password"):
        load_signers(settings(keystore=place))
    with pytest.raises(KeystoreError, match=r"Cannot read password file .*missing"):
        load_signers(settings(keystore=place, keystore_password_file=tmp_path / "missing"))


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_readable_password_file_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warnings: int
) -> None:
    place = keyfile(tmp_path / "a.json")
    with caplog.at_level(logging.WARNING):
        load_signers(settings(keystore=place, keystore_password_file=password_file(tmp_path / "p", mode=mode)))
    assert len(caplog.records) == warnings
    assert PASSWORD not in caplog.text


def test_signer_never_shows_its_key() -> None:
    signer = LocalSigner.from_key(KEY)
    assert repr(signer) == str(signer) == f"LocalSigner({ADDRESS})"
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="private key"):
            copying(signer)
    assert not hasattr(signer, "__dict__")


@pytest.mark.parametrize("bad", ["0x1234", "zz" * 32, "5a" * 33, ""])
def test_bad_development_key_is_refused_without_being_shown(bad: str) -> None:
    with pytest.raises(KeystoreError) as caught:
        LocalSigner.from_key(bad)
    shown = "".join(traceback.format_exception(caught.value))
    assert "FITCHAIN_PRIVATE_KEY" in shown
    assert not bad or bad.removeprefix("0x") not in shown


def test_signs_transactions_of_both_kinds_deterministically() -> None:
    signer: Signer = LocalSigner.from_key(KEY)
    common = {"chainId": 31337, "nonce": 0, "gas": 21000, "to": ADDRESS, "value": 1, "data": "0x"}
    for fees in ({"gasPrice": 5}, {"type": 2, "maxFeePerGas": 5, "maxPriorityFeePerGas": 1}):
        raw = signer.sign_transaction({**common, **fees})
        assert raw == signer.sign_transaction({**common, **fees})
        assert Account.recover_transaction(HexBytes(raw)) == ADDRESS
    assert signer.deterministic
