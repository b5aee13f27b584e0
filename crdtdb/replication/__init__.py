"""Replication as a state machine: frames and time go in, frames come out.

Nothing here opens a socket, waits, or reads a clock. `Replication` (`machine.py`) is the door.
"""

from crdtdb.replication.cluster import Send
from crdtdb.replication.machine import Phase, Replication
from crdtdb.replication.messages import Sender

__all__ = ["Phase", "Replication", "Send", "Sender"]
