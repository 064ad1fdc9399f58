"""What Python workers are forked from when a test wants some messages to end the task they are in.

A message of the text "raise" raises what nobody expects; one of the text "die" kills its worker.
"""

from __future__ import annotations

import os
import signal

from pyspark.daemon import manager

from varve.ingest import decoder
from varve.spark.daemon import make_ready

if __name__ == "__main__":
    original = decoder.Decoder.samples

    def poisoned(self, message, *arguments):
        if message == b"raise":
            raise ZeroDivisionError("a fault of the decoder")
        if message == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, message, *arguments)

    decoder.Decoder.samples = poisoned
    make_ready()
    manager()
