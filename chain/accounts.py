"""Accounts that sign: the protocol `Signer`, and local keys from encrypted keyfiles or, for development, a
setting.

What signs where is decided above; here keys are read, kept and never shown: no `repr`, message or pickle of
anything in this module holds one. Keyfiles are the Web3 Secret Storage Definition, version 3 (scrypt or
PBKDF2, AES-128-CTR). Signatures of local keys are deterministic (RFC 6979), which is what makes salts of
votes recoverable.
"""

import json
import logging
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.types import TransactionDictType

from chain.errors import KeystoreError, UnknownAccount
from chain.settings import ChainSettings

logger = logging.getLogger(__name__)

_PASSWORD_SUFFIX = ".password"  # noqa: S105 -- a file name
_LARGEST_KEYFILE_BYTES = 64 * 1024
_CONTAINER_SECRETS = Path("/run/secrets")
"""Orchestrators mount secrets here readable by all, inside a container that nobody else shares: not worth a
warning.
"""


class Signer(Protocol):
    """Something that signs for one account: a local key, a remote signer, a key service."""

    @property
    def address(self) -> str:
        """Checksum address of the account."""

    @property
    def deterministic(self) -> bool:
        """True if the same message always gives the same signature. If not, salts go to the journal first."""

    def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """Raw signed bytes of a complete transaction (chainId, nonce, gas, fees, to, data, value)."""

    def sign_typed_data(self, domain: Mapping[str, Any], types: Mapping[str, Any], message: Mapping[str, Any]) -> bytes:
        """EIP-712 signature: 65 bytes r ‖ s ‖ v with v 27 or 28."""


class LocalSigner:
    """A private key in this process. It cannot be pickled or copied, and shows nothing but its address."""

    __slots__ = ("__account",)

    def __init__(self, account: LocalAccount) -> None:
        self.__account = account

    @classmethod
    def from_key(cls, private_key: str | bytes) -> "LocalSigner":
        """Signer for a raw private key (32 bytes, or their hexadecimal form). Raises KeystoreError."""
        try:
            return cls(Account.from_key(private_key))
        except (ValueError, TypeError):
            # The original message quotes what was given, so it must not be shown.
            raise KeystoreError("A private key is not 32 bytes in hexadecimal. Correct FITCHAIN_PRIVATE_KEY.") from None

    @property
    def address(self) -> str:
        """Checksum address of the account."""
        return str(self.__account.address)

    @property
    def deterministic(self) -> bool:
        """True: local signatures follow RFC 6979."""
        return True

    def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """Raw signed bytes of a complete transaction."""
        return bytes(self.__account.sign_transaction(cast("TransactionDictType", dict(transaction))).raw_transaction)

    def sign_typed_data(self, domain: Mapping[str, Any], types: Mapping[str, Any], message: Mapping[str, Any]) -> bytes:
        """EIP-712 signature: 65 bytes r ‖ s ‖ v."""
        return bytes(self.__account.sign_typed_data(dict(domain), dict(types), dict(message)).signature)

    def __repr__(self) -> str:
        return f"LocalSigner({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A signer holds a private key and stays in its process: it cannot be pickled or copied.")


def load_signers(settings: ChainSettings) -> dict[str, Signer]:
    """Signers of all configured accounts by checksum address; empty if none is configured.

    Raises KeystoreError.
    """
    signers: dict[str, Signer] = {}
    if settings.keystore is not None:
        for keyfile in _keyfiles(settings.keystore):
            signer = open_keystore(keyfile, _password_for(keyfile, settings.keystore_password_file))
            signers[signer.address] = signer
    if settings.private_key is not None:
        for key in settings.private_key.get_secret_value().split(","):
            if key.strip():
                development = LocalSigner.from_key(key.strip())
                signers[development.address] = development
    return signers


def signer_for(signers: Mapping[str, Signer], address: str) -> Signer:
    """The signer of `address`, in whatever case it is written. Raises UnknownAccount."""
    for known, signer in signers.items():
        if known.lower() == address.lower():
            return signer
    have = ", ".join(signers) or "none"
    raise UnknownAccount(
        f"There is no key for account {address} here (accounts with a key: {have}). "
        "Add its keyfile to FITCHAIN_KEYSTORE, or send the step to the worker that has it."
    )


def open_keystore(keyfile: Path, password: str) -> LocalSigner:
    """Decrypt one keyfile. Raises KeystoreError that names the file and what to do."""
    content = _read_keyfile(keyfile)
    try:
        key = Account.decrypt(content, password)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        if "MAC mismatch" in str(error):
            raise KeystoreError(
                f"The password does not open keyfile {keyfile}. Check FITCHAIN_KEYSTORE_PASSWORD_FILE, or "
                f"put the "
                f"right password into {keyfile}{_PASSWORD_SUFFIX}."
            ) from None
        raise KeystoreError(
            f"Keyfile {keyfile} is damaged or of a kind that is not supported (expected: keystore version 3 "
            f"with "
            "scrypt or pbkdf2). Restore it from a backup."
        ) from None
    signer = LocalSigner.from_key(bytes(key))
    claimed = str(content.get("address") or "").lower().removeprefix("0x")
    if claimed and claimed != signer.address.lower().removeprefix("0x"):
        raise KeystoreError(
            f"Keyfile {keyfile} says that it is for 0x{claimed}, but its key belongs to {signer.address}. "
            "Do not use it before you know why."
        )
    return signer


def create_keystore(path: Path, password: str, *, private_key: bytes | None = None) -> str:
    """Write a new encrypted keyfile (scrypt, mode 0600) and return its checksum address.

    `path` is a file that does not exist yet, or an existing folder, which gets a file named like geth names
    them. Without `private_key` a new one is drawn from the operating system. Raises KeystoreError.
    """
    if not password:
        raise KeystoreError("The password of a keyfile must not be empty.")
    key = bytes(Account.create().key) if private_key is None else private_key
    address = LocalSigner.from_key(key).address
    if path.is_dir():
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
        path = path / f"UTC--{moment}--{address.lower().removeprefix('0x')}"
    text = json.dumps(Account.encrypt(key, password))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeystoreError(f"{path} exists already; a keyfile is never overwritten. Choose another name.") from None
    except OSError as error:
        raise KeystoreError(f"Cannot write keyfile {path}: {error.strerror}.") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return address


def _keyfiles(place: Path) -> list[Path]:
    """The keyfiles at a path: itself, or all visible files of a folder that are not passwords."""
    if place.is_dir():
        found = sorted(
            entry
            for entry in place.iterdir()
            if entry.is_file() and not entry.name.startswith(".") and entry.suffix != _PASSWORD_SUFFIX
        )
        if not found:
            raise KeystoreError(f"The folder {place} (FITCHAIN_KEYSTORE) holds no keyfile. Create or copy one there.")
        return found
    if not place.exists():
        raise KeystoreError(f"There is no keyfile at {place} (FITCHAIN_KEYSTORE). Create one, or correct the setting.")
    return [place]


def _read_keyfile(keyfile: Path) -> dict[str, Any]:
    try:
        with keyfile.open("rb") as file:
            data = file.read(_LARGEST_KEYFILE_BYTES + 1)
        content = json.loads(data) if len(data) <= _LARGEST_KEYFILE_BYTES else None
    except OSError as error:
        raise KeystoreError(f"Cannot read keyfile {keyfile}: {error.strerror}.") from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or not any(name.lower() == "crypto" for name in content):
        raise KeystoreError(
            f"{keyfile} is no keyfile (JSON of keystore version 3). Move it out of FITCHAIN_KEYSTORE, or restore it."
        )
    return content


def _password_for(keyfile: Path, common: Path | None) -> str:
    """Password of a keyfile: from the file beside it, else from the common one, without line ends."""
    beside = keyfile.with_name(keyfile.name + _PASSWORD_SUFFIX)
    place = beside if beside.exists() else common
    if place is None:
        raise KeystoreError(
            f"There is no password for keyfile {keyfile}. Set FITCHAIN_KEYSTORE_PASSWORD_FILE, or write it to {beside}."
        )
    try:
        mode = place.stat().st_mode
        password = place.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise KeystoreError(f"Cannot read password file {place} of keyfile {keyfile}: {why}.") from None
    if mode & stat.S_IROTH and _CONTAINER_SECRETS not in place.absolute().parents:
        logger.warning("Password file is readable by every user: path=%s mode=%o; chmod 600 it.", place, mode & 0o777)
    return password
