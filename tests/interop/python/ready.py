"""Waits until the broker is ready. `python ready.py PID` fails as soon as that process is gone."""

import os
import sys
import time
import urllib.error
import urllib.request

import world as worlds

PATIENCE_SECONDS = 60


def main(broker):
    world = worlds.find()
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_SECONDS:
        try:
            os.kill(broker, 0)
            urllib.request.urlopen(f"{world.base_url}/readyz", context=world.tls(), timeout=5).close()
            return
        except ProcessLookupError:
            sys.exit("it ended")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    sys.exit(f"not ready after {PATIENCE_SECONDS} s")


if __name__ == "__main__":
    main(int(sys.argv[1]))
