"""``python -m storage.node --store DIR --listen 127.0.0.1:5001``: run the embedded node until it is told to
stop."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from storage.blocks import BlockStore
from storage.errors import StorageError
from storage.node.server import NodeServer
from storage.settings import StorageSettings


def main(arguments: list[str] | None = None) -> int:
    """Serve; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storage.node", description="An embedded IPFS node.")
    parser.add_argument("--store", type=Path, help="folder of the block store (default: FITCHAIN_IPFS_STORE)")
    parser.add_argument("--listen", default="127.0.0.1:5001", help="address and port (0: a free one)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"{options.listen!r} is no address; write 127.0.0.1:5001")
    try:
        store = BlockStore(options.store or StorageSettings().ipfs_store)
        server = NodeServer(store, host.strip("[]"), int(port))
    except (StorageError, OSError) as error:
        logging.error("the node cannot start: %s", error)  # noqa: LOG015 - this process has no other logger
        return 1
    _stop_on_signals(server)
    logging.info("listening on %s store=%s", server.url, store.folder)  # noqa: LOG015
    with server:
        server.serve_forever(poll_interval=0.2)
    return 0


def _stop_on_signals(server: NodeServer) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        # shutdown() waits for the loop, which this very thread runs
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


if __name__ == "__main__":
    sys.exit(main())
