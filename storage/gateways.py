"""Trustless HTTP gateways: CARs and raw blocks over plain GET.

Specification: https://specs.ipfs.tech/http-gateways/trustless-gateway/. "Trustless" is the word for an
answer that is verified by whoever asked; here that is the assembly. Addresses come from the settings only,
redirects are not followed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import requests
import urllib3.exceptions

from storage.assembly import MAX_BLOCK_BYTES
from storage.car import MEDIA_TYPE
from storage.cid import CID
from storage.deadline import Deadline
from storage.errors import ContentNotFound, SourceUnavailable
from storage.sources import RemoteSource
from storage.watched import Watch, new_session

_CHUNK_BYTES: Final = 262_144
_CAR: Final = f"{MEDIA_TYPE}; version=1; order=dfs; dups=n"
_RAW: Final = "application/vnd.ipld.raw"
_NOT_THERE: Final = frozenset({404, 410, 504})  # a gateway that searched in vain says 504


class Gateway(RemoteSource):
    """One gateway by its base address."""

    def __init__(self, base: str) -> None:
        self.name = f"the gateway {base}"
        self._base = base.rstrip("/")

    @contextmanager
    def car(self, cid: CID, deadline: Deadline) -> Iterator[Iterator[bytes]]:
        """The whole DAG as a CAR."""
        with self._get(f"/ipfs/{cid}?format=car&dag-scope=all", _CAR, cid, deadline) as chunks:
            yield chunks

    def block(self, cid: CID, deadline: Deadline) -> bytes:
        """One raw block."""
        out = bytearray()
        with self._get(f"/ipfs/{cid}?format=raw", _RAW, cid, deadline) as chunks:
            for chunk in chunks:
                out += chunk
                if len(out) > MAX_BLOCK_BYTES:
                    raise SourceUnavailable(f"{self.name} sends more than a block for {cid}")
        return bytes(out)

    @contextmanager
    def _get(self, path: str, accept: str, cid: CID, deadline: Deadline) -> Iterator[Iterator[bytes]]:
        deadline.check(self.name)
        watch = Watch()
        try:
            with watch.until(deadline, paced=True), new_session(watch) as session:
                answer = session.get(
                    self._base + path,
                    headers={"Accept": accept, "Accept-Encoding": "identity"},
                    timeout=(deadline.patience(), deadline.patience()),
                    stream=True,
                    allow_redirects=False,
                )
                with answer:
                    self._check(answer, cid)
                    yield watch.paced(answer.iter_content(_CHUNK_BYTES))
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            deadline.check(self.name)
            if watch.too_slow:
                raise SourceUnavailable(f"{self.name} sends {cid} too slowly; it was left") from error
            if isinstance(error, requests.TooManyRedirects):
                raise SourceUnavailable(f"{self.name} redirects elsewhere, which is not followed") from error
            if isinstance(error, requests.Timeout):
                raise SourceUnavailable(f"{self.name} fell silent") from error
            raise SourceUnavailable(f"{self.name} does not answer or broke off: {error}") from error

    def _check(self, answer: requests.Response, cid: CID) -> None:
        status = answer.status_code
        if status == 200:
            return
        if status in _NOT_THERE:
            raise ContentNotFound(f"{self.name} does not have {cid}")
        raise SourceUnavailable(f"{self.name} answered with status {status}")
