"""A RAS load generator: ready-made requests out of one UDP socket, answers matched by requestSeqNum.

What lives here: closed-loop and open-loop sending with everything bounded, and the count of what came back. What never
does: making requests (encoding and signing would measure the generator).
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Octets before requestSeqNum (minus 1, two octets) by the index of the RasMessage alternative: H.225.0's preambles are
#: fixed, so that an answer need not be decoded to be matched.
_SEQUENCE_AT = {4: 2, 5: 2, 7: 1, 8: 1, 10: 2, 11: 1, 16: 1, 17: 1}
_REJECTS = {5, 8, 11, 17}
#: An answer that takes longer is lost.
LOST_S = 2.0


@dataclass(slots=True)
class Result:
    """What came of a run. ``latencies`` in seconds, one for each request that was answered."""

    sent: int = 0
    rejected: int = 0
    elapsed_s: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return len(self.latencies)

    @property
    def per_s(self) -> float:
        return self.answered / self.elapsed_s

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3


def sequence_of(answer: bytes) -> tuple[int, int]:
    """The alternative and the requestSeqNum of an answer; 0 for one that answers nothing of ours."""
    if answer[0] & 0x80:
        return -1, 0  # an extension alternative: RIP
    kind = answer[0] >> 2 & 31
    at = _SEQUENCE_AT.get(kind)
    return kind, 0 if at is None else int.from_bytes(answer[at : at + 2], "big") + 1


class Generator:
    """One socket connected to one gatekeeper."""

    def __init__(self, gatekeeper: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((host, 0))
        self.socket.connect(gatekeeper)
        self.address: tuple[str, int] = self.socket.getsockname()

    def close(self) -> None:
        self.socket.close()

    def exchange(self, request: bytes, timeout_s: float = 5.0) -> bytes:
        """Send one request and return the answer to it."""
        self.socket.settimeout(timeout_s)
        self.socket.send(request)
        return self.socket.recv(8192)

    def closed(self, requests: Iterator[tuple[int, bytes]], *, window: int, limit: int) -> Result:
        """Keep ``window`` requests (requestSeqNum, octets) on their way until ``limit`` are sent."""
        return self._run(requests, limit, window=window)

    def paced(self, requests: Iterator[tuple[int, bytes]], *, rate: float, limit: int) -> Result:
        """Send ``rate`` requests a second whatever comes back, until ``limit`` are sent."""
        return self._run(requests, limit, rate=rate)

    def _run(self, requests: Iterator[tuple[int, bytes]], limit: int, *, window: int = 1 << 30, rate: float = 0.0) -> Result:
        self.socket.setblocking(False)
        result, waiting = Result(), {}
        clock, began = time.perf_counter, time.perf_counter()
        last_answer = began
        while True:
            while result.sent < limit and len(waiting) < window and (not rate or clock() >= began + result.sent / rate):
                sequence, octets = next(requests)
                waiting[sequence] = clock()
                self.socket.send(octets)
                result.sent += 1
            if result.sent >= limit and (not waiting or clock() - last_answer > LOST_S):
                break
            try:
                answer = self.socket.recv(8192)
            except BlockingIOError:
                if len(waiting) >= window and clock() - last_answer > LOST_S:
                    waiting.clear()  # all of them are lost
                idle = min(0.05, max(0.0, began + result.sent / rate - clock())) if rate and result.sent < limit else 0.05
                select.select([self.socket], [], [], idle)
                continue
            kind, sequence = sequence_of(answer)
            sent_at = waiting.pop(sequence, None)
            if sent_at is not None:
                last_answer = clock()
                result.latencies.append(last_answer - sent_at)
                result.rejected += kind in _REJECTS
        result.elapsed_s = last_answer - began
        return result
