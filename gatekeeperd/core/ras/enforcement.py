"""Holding what is registered to the registry in force: after a reload, and at start, since it may have changed meanwhile.

What lives here: who may stay. What never does: reading the registry.
"""

from __future__ import annotations

from gatekeeperd.core.ras import closing
from gatekeeperd.core.ras.context import Context
from gatekeeperd.core.ras.model import Registration
from gatekeeperd.core.ras.state import Transaction
from gatekeeperd.policy.gates import Method
from gatekeeperd.policy.registry import Guardian, GuardianStatus
from gatekeeperd.security.keys import key_id


def fingerprint(guardian: Guardian) -> str:
    """Name the key that a guardian has, as a registration or a voucher notes it: 16 hexadecimal digits."""
    return key_id(guardian.public_key).hex()


def enforce_registry(context: Context, transaction: Transaction, now: float) -> None:
    """Disengage and unregister every guardian who is no longer in the registry, active, and with the same key."""
    for item in [item for item in context.state.registrations() if not _may_stay(context, item)]:
        closing.unregister(context, item, "registry", transaction, now, tell="securityDenial", tell_calls=True)
    for grant in list(context.state.grants()):
        guardian = _active(context, grant.terminal_id)
        if guardian is None or fingerprint(guardian) != grant.key_id:
            closing.end_grant(context, grant.session_id, "registry", transaction, now)


def _may_stay(context: Context, item: Registration) -> bool:
    if item.terminal_id is None:
        return True
    guardian = _active(context, item.terminal_id)
    if guardian is None:
        return False
    if item.method in {Method.SIGNATURE, Method.VOUCHED}:
        return fingerprint(guardian) == item.key_id
    owner = context.registry.owner_of(item.credential_alias or "")
    return owner is not None and owner.terminal_id == item.terminal_id


def _active(context: Context, terminal_id: str) -> Guardian | None:
    guardian = context.registry.get(terminal_id)
    return guardian if guardian is not None and guardian.status is GuardianStatus.ACTIVE else None
