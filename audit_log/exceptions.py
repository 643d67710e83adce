"""Everything this app raises on purpose, under one root.

AuditLogError
├── ConfigurationError      a setting, key or registration is wrong (also a ValueError)
├── EncodingError           bytes that are not what they should be: a batch, an event, a note
│   └── UnknownVersion      written by a newer version of this app
├── DecryptionError         a sealed value cannot be opened
│   ├── UnknownKey          its key is not in the ring, or nowhere
│   │   └── Erased          its key was destroyed: its person was erased, and when
│   ├── KeysUnavailable     the key service cannot be asked now
│   └── TamperedValue       the value, its place or its key was altered
├── RecordingFailed         ON_FAILURE is "block" and the batch could not be written
├── ImmutableRecord         somebody tried to change or delete what is append-only
├── ForkDetected            the ledger is not an extension of the last published checkpoint
├── InvalidProof            a proof, checkpoint or signature does not hold
├── PartDamaged             a part of the archive is not what was written
├── RetentionRefused        archive or purge will not go on: why, with numbers, and what to do
├── ErasureRefused          a person will not be erased: why, and what to do
└── StoreError              the archive's store refused, or could not be reached
    └── AlreadyThere        something stands under that key: stores never overwrite
"""

from __future__ import annotations

from datetime import datetime


class AuditLogError(Exception):
    """The root: catch this to catch everything of ours."""


class ConfigurationError(AuditLogError, ValueError):
    """A setting, key or registration is wrong."""


class EncodingError(AuditLogError):
    """Bytes that are not what they should be."""


class UnknownVersion(EncodingError):
    """Written by a newer version of this app: upgrade the reader first."""


class DecryptionError(AuditLogError):
    """A sealed value cannot be opened."""


class UnknownKey(DecryptionError):
    """The key is not in the ring, or is nowhere."""


class Erased(UnknownKey):
    """The key was destroyed on purpose: its person was erased. `on` is when."""

    def __init__(self, on: datetime) -> None:
        super().__init__(f"Erased on {on:%Y-%m-%d}: its key was destroyed.")
        self.on = on


class KeysUnavailable(DecryptionError):
    """The key service cannot be asked now: nothing is wrong with what is stored. Try again."""


class TamperedValue(DecryptionError):
    """The value, the place it stands in, or its key was altered."""


class RecordingFailed(AuditLogError):
    """ON_FAILURE is "block" and the batch could not be written, so the transaction must fail."""


class ImmutableRecord(AuditLogError):
    """Records, tiles and checkpoints are append-only."""


class ForkDetected(AuditLogError):
    """The ledger is not an extension of the last published checkpoint."""


class InvalidProof(AuditLogError):
    """A proof, checkpoint or signature does not hold."""


class PartDamaged(AuditLogError):
    """A part of the archive, or its manifest, is not what was written."""


class RetentionRefused(AuditLogError):
    """Archive or purge will not go on: why, with numbers, and what to do."""


class ErasureRefused(AuditLogError):
    """A person will not be erased: why (a legal hold, say), and what to do."""


class StoreError(AuditLogError):
    """The archive's store refused, or could not be reached. It says what, where, and what to do."""


class AlreadyThere(StoreError):
    """Something stands under that key: stores never overwrite."""
