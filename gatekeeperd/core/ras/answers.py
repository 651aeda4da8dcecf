"""What was answered to which request, so that a retransmission gets the same octets (H.225.0 section 7.19).

What lives here: a cache bounded in entries and time. What never does: deciding whether an answer is worth keeping.
Only answers to authenticated requests that changed something or moved a counter are kept; everything else is
cheaper to compute again than to keep, and a stranger must not be able to push a guardian's answer out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from gatekeeperd.core.actions import Change, TransportAddress

KIND = "answer"


@dataclass(slots=True)
class Answer:
    """One kept answer. ``waits`` while its commit is on its way, which alone changes; ``stored`` when the store holds it too."""

    data: bytes
    kept_at: float
    waits: bool
    stored: bool


def digest(pdu: bytes, source: TransportAddress) -> str:
    """Name a request by its octets and where they came from: 32 hexadecimal digits."""
    # The person field would do for the source, but holds 16 octets and an IPv6 literal is longer.
    return blake2b(b"%s|%d|%s" % (source[0].encode(), source[1], pdu), digest_size=16).hexdigest()


class AnswerCache:
    """Answers of the last ``lifetime_s`` seconds, at most ``entries`` of them."""

    __slots__ = ("_answers", "_entries", "_expired", "_lifetime_s")

    def __init__(self, entries: int, lifetime_s: float, stored: Mapping[str, bytes], now: float) -> None:
        self._entries = entries
        self._lifetime_s = lifetime_s
        #: Durable answers that are out of date; the next commit deletes them, none is made for that alone.
        self._expired: list[str] = []
        self._answers = OrderedDict((key, Answer(data, now, waits=False, stored=True)) for key, data in stored.items())

    def get(self, key: str, now: float) -> Answer | None:
        """Return the answer to that request, ``None`` if it is not kept or too old."""
        answer = self._answers.get(key)
        if answer is None or now - answer.kept_at > self._lifetime_s:
            return None
        return answer

    def confirm(self, key: str) -> None:
        """Let an answer be repeated: its commit is durable."""
        answer = self._answers.get(key)
        if answer is not None:
            answer.waits = False

    def keep(self, key: str, answer: Answer) -> list[Change]:
        """Keep one answer and return what the commit has to write and delete for it."""
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > self._entries or self._stale(answer.kept_at):
            old_key, old = self._answers.popitem(last=False)
            if old.stored:
                self._expired.append(old_key)
        if not answer.stored:
            return []
        changes = [Change(KIND, key, answer.data)]
        changes += [Change(KIND, old_key, None) for old_key in self._expired if old_key not in self._answers]
        self._expired.clear()
        return changes

    def _stale(self, now: float) -> bool:
        oldest = next(iter(self._answers.values()))
        return now - oldest.kept_at > self._lifetime_s
