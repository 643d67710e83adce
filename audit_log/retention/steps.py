"""The steps of one part on its way into the archive: written, then verified.

Each can be repeated after a kill at any point: what it would put into the store is the same again,
so what stands there already is compared and adopted, and never overwritten.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import zip_longest
from typing import Any, BinaryIO

from audit_log.exceptions import AlreadyThere, PartDamaged, RetentionRefused, StoreError
from audit_log.ledger import checkpoints, heads, redactions
from audit_log.ledger.merkle import flanks
from audit_log.ledger.rows import Row, Unreadable, numbered
from audit_log.models import ArchivePart, Checkpoint, Stream
from audit_log.retention import parts
from audit_log.retention.clock import database_now
from audit_log.retention.manifests import Manifest, PartFacts
from audit_log.retention.stores import Store

Progress = Callable[[ArchivePart, int], None]
_SHOWN_EVERY = 1_000


def write(
    part: ArchivePart, store: Store, prefix: str, using: str, progress: Progress
) -> dict[str, Any]:
    """Put the file into the store. Returns what is to be kept of it."""
    checkpoint = checkpoints.last(part.stream, using)
    if checkpoint is None or checkpoint.size <= part.last:
        raise RetentionRefused("No checkpoint covers the part: it will be when one is signed.")
    key = parts.part_key(prefix, part.stream, part.day, part.first, part.last)
    with tempfile.TemporaryFile() as file:
        facts = parts.write_part(_rows(part, using, progress), file)
        expected = _facts(part, facts.sha256, facts.size)
        if facts != expected:
            raise PartDamaged(
                f"Records {part.first} to {part.last} are not those that were planned: "
                f"{facts.count} were found. Run `manage.py audit_log verify`."
            )
        file.seek(0)
        try:
            version_id = store.put(key, file, size=facts.size, sha256=facts.sha256)
        except AlreadyThere:
            version_id, facts = "", _adopt(store, key, file)
    return {
        "store": store.name,
        "key": key,
        "version_id": version_id,
        "sha256": facts.sha256,
        "size": facts.size,
        "checkpoint_size": checkpoint.size,
    }


def _rows(part: ArchivePart, using: str, progress: Progress) -> Iterator[dict[str, Any]]:
    done = 0
    for row in numbered(part.stream, part.first, part.last + 1, using):
        yield _readable(row, using)
        done += 1
        if done % _SHOWN_EVERY == 0:
            progress(part, done)
    progress(part, done)


def _readable(row: Row, using: str) -> dict[str, Any]:
    if isinstance(row, Unreadable):
        raise PartDamaged(
            f"Record {row.sequence} cannot be archived: {row.why}. Run `manage.py audit_log "
            "verify`."
        )
    redacted = redactions.of(row, using)
    return row if redacted is None else {**row, parts.KEPT: redacted.digests}


def _facts(part: ArchivePart, digest: str, size: int) -> PartFacts:
    return PartFacts(
        *(part.first, part.last, part.count, digest, size), *(part.min_time, part.max_time)
    )


def _adopt(store: Store, key: str, ours: BinaryIO) -> PartFacts:
    """What an earlier run left there, if it holds the same records. Raises StoreError if not.

    The bytes may differ: another host may have another zlib.
    """
    try:
        with store.open(key) as theirs:
            facts = parts.part_facts(theirs)
        ours.seek(0)
        with store.open(key) as theirs:
            pairs = zip_longest(parts.read_part(theirs), parts.read_part(ours))
            same = all(left == right for left, right in pairs)
    except PartDamaged as error:
        raise _another(store, key, str(error)) from error
    if not same:
        raise _another(store, key, "It holds other records.")
    return facts


def verify(part: ArchivePart, store: Store, prefix: str, using: str) -> dict[str, Any] | None:
    """Read the part back and prove it; put manifest and checkpoint beside it.

    None where the manifest before it in its stream is not there yet.
    """
    checkpoint = _checkpoint(part, using)
    before = _manifest_before(part, using)
    if before is None:
        return None
    head = Stream.objects.using(using).get(pk=part.stream)
    manifest = Manifest.of(
        _facts(part, part.sha256, part.size),
        part.stream,
        checkpoint=checkpoint.note,
        flanks=flanks(part.first, part.last + 1, checkpoint.size, heads.reader_of(head, using)),
        version_id=part.version_id,
        prev_manifest_sha256=before,
    )
    with store.open(part.key, part.version_id) as source:
        parts.verify_part(manifest, source, checkpoints.verifiers())
    _put(store, parts.manifest_key(part.key), manifest.encode())
    _put_checkpoint(store, parts.checkpoint_key(prefix, part.stream, checkpoint.size), checkpoint)
    return {"manifest_sha256": manifest.digest, "verified_at": database_now(using)}


def _checkpoint(part: ArchivePart, using: str) -> Checkpoint:
    """The one that was chosen when the part was written. Raises InvalidProof if it is none."""
    rows = Checkpoint.objects.using(using).filter(stream=part.stream, size=part.checkpoint_size)
    checkpoint = rows.order_by("id").first()
    if checkpoint is None:
        raise RetentionRefused(
            f"The checkpoint at {part.checkpoint_size} is gone. Run `manage.py audit_log verify`."
        )
    checkpoints.opened(checkpoint.note, part.stream)
    return checkpoint


def _manifest_before(part: ArchivePart, using: str) -> str | None:
    """The hash that chains this manifest to the one before; None until there is one."""
    before = ArchivePart.objects.using(using).filter(stream=part.stream, last=part.first - 1)
    found = before.values_list("manifest_sha256", "state").first()
    if found is None:
        return ""
    digest, state = found
    gone = state in {ArchivePart.State.PURGING, ArchivePart.State.PURGED}  # without an archive
    return digest or ("" if gone else None)


def _put(store: Store, key: str, data: bytes) -> None:
    """Put a small file, and read it back. Raises StoreError where others stand there."""
    with suppress(AlreadyThere):  # by a run that was killed, as the comparison shows
        store.put(key, io.BytesIO(data), size=len(data), sha256=sha256(data).hexdigest())
    if read_small(store, key, len(data)) != data:
        raise _another(store, key, "It is not what was to be written.")


def _put_checkpoint(store: Store, key: str, checkpoint: Checkpoint) -> None:
    """The note beside the parts. One that another key signed for the same root will do."""
    note = checkpoint.note.encode()
    if not store.exists(key):
        _put(store, key, note)
        return
    there = read_small(store, key)
    if there == note:
        return
    said = checkpoints.opened(there.decode(errors="replace"), checkpoint.stream)
    if (said.size, said.root.hex()) != (checkpoint.size, checkpoint.root):
        raise _another(store, key, "It signed another tree: one of the two was rewritten.")


def read_small(store: Store, key: str, size: int = 1 << 20) -> bytes:
    """A manifest or a note, and a byte more where it is longer than expected."""
    with store.open(key) as file:
        return file.read(size + 1)


def _another(store: Store, key: str, why: str) -> StoreError:
    return StoreError(
        f"{store.name}/{key} is there already, with other contents. {why} Nothing was overwritten: "
        "find out who wrote it, and move it away."
    )
