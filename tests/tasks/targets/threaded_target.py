"""A target whose import leaves a thread behind, as a careless library would."""

import threading
import time

threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def main(request: bytes, progress: object) -> bytes:
    return request
