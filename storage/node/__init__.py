"""The embedded node: a block store in a folder, served with the part of Kubo's RPC that this project speaks.

It is the IPFS node of the local stack and of tests, and gives the same CIDs as ``ipfs add``. It has no
network of its own: what was not added to it is not there. Production runs Kubo. Start it with ``python -m
storage.node``.

``server`` speaks HTTP, ``commands`` is what each RPC call does, ``multipart`` reads uploads as a stream.
"""
