"""The RFC 6962 tree over a stream's entries, kept in tiles of 256 hashes (c2sp.org/tlog-tiles).

Tile `(level, index)` holds up to 256 hashes, 32 bytes each; a hash at level L is the root of 256**L
leaves. Only full tiles are stored; the partial ones are the `Frontier`, a few kilobytes in the
stream's head row. No database and no framework here: the auditor's arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final, Literal, NamedTuple, Protocol

from audit_log.exceptions import EncodingError, InvalidProof

HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry), RFC 6962 section 2.1."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), RFC 6962 section 2.1."""
    return sha256(b"\x01" + left + right).digest()


class Tile(NamedTuple):
    """A full tile: `hashes` is 256 hashes of 32 bytes."""

    level: int
    index: int  # type: ignore[assignment]  # the specification's word; hides tuple.index
    hashes: bytes


class TileReader(Protocol):
    """Gives the first `width` hashes of a tile, full or partial, as one string of bytes."""

    def __call__(self, level: int, index: int, width: int, /) -> bytes: ...


class Frontier:
    """A tree's size and its partial tiles: all that is needed to go on appending.

    `partial` is the partial tiles one after the other, level 0 first; level L has
    `(size >> 8 * L) % 256` hashes. Raises EncodingError where size and bytes disagree.
    """

    __slots__ = ("_levels", "size")

    def __init__(self, size: int = 0, partial: bytes | memoryview = b"") -> None:
        widths = list(_partial_widths(size)) if size >= 0 else []
        if size < 0 or len(partial) != sum(widths) * HASH_BYTES:
            raise EncodingError(f"{len(partial)} bytes of partial tiles do not fit size {size}.")
        self.size = size
        partial = bytes(partial)  # drivers may give a memoryview
        self._levels: list[bytes] = []
        start = 0
        for width in widths:
            end = start + width * HASH_BYTES
            self._levels.append(partial[start:end])
            start = end

    @property
    def partial(self) -> bytes:
        """The partial tiles as the head row stores them."""
        return b"".join(self._levels)

    def partial_tile(self, level: int) -> bytes:
        """Return the hashes of the partial tile at `level`; empty where there is none."""
        return self._levels[level] if level < len(self._levels) else b""

    def extend(self, leaf_hashes: Sequence[bytes]) -> list[Tile]:
        """Append leaves; returns the tiles that became full, by level, then by index.

        Inner nodes are hashed only when their tile is full: 255 hashes for 256 leaves.
        """
        if set(map(len, leaf_hashes)) - {HASH_BYTES}:
            raise EncodingError("A leaf hash has 32 bytes.")
        filled: list[Tile] = []
        hashes = b"".join(leaf_hashes)
        level = 0
        while hashes:
            if level == len(self._levels):
                self._levels.append(b"")
            first = self.size >> TILE_HEIGHT * (level + 1)
            tiles, self._levels[level] = _cut(level, first, self._levels[level] + hashes)
            filled += tiles
            hashes = b"".join([_perfect_root(tile.hashes) for tile in tiles])
            level += 1
        self.size += len(leaf_hashes)
        return filled

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the perfect subtrees of the tree: with them a `CompactRange` goes on."""
        nodes = _Nodes(self.size, frontier_reader(self, lambda _level, _index: b""))
        return tuple(nodes.perfect(*span) for span in _perfect_ranges(0, self.size))

    def root(self) -> bytes:
        """Return the root of the whole tree. Reads nothing but the frontier itself."""
        return root_at(self.size, frontier_reader(self, lambda _level, _index: b""))


def _partial_widths(size: int) -> Iterator[int]:
    while size:
        yield size % TILE_WIDTH
        size >>= TILE_HEIGHT


def _cut(level: int, first: int, hashes: bytes) -> tuple[list[Tile], bytes]:
    """Full tiles from index `first` on, and what is left over."""
    full = len(hashes) // TILE_BYTES
    tiles = [
        Tile(level, first + n, hashes[n * TILE_BYTES : (n + 1) * TILE_BYTES]) for n in range(full)
    ]
    return tiles, hashes[full * TILE_BYTES :]


def _perfect_root(hashes: bytes) -> bytes:
    """Return the root over 2**k hashes. Two children are neighbours: one slice of 64 bytes."""
    while len(hashes) > HASH_BYTES:
        hashes = b"".join(
            [sha256(b"\x01" + hashes[n : n + 64]).digest() for n in range(0, len(hashes), 64)]
        )
    return hashes


def frontier_reader(
    frontier: Frontier, read_full: Callable[[int, int], bytes | memoryview]
) -> TileReader:
    """Return a reader of the frontier's partial tiles and, by `read_full(level, index)`, full ones.

    A tile that is too short for what is asked raises InvalidProof.
    """

    def read(level: int, index: int, width: int, /) -> bytes:
        full = frontier.size >> TILE_HEIGHT * (level + 1)
        if index < full:
            tile, expected = bytes(read_full(level, index)), TILE_WIDTH
        else:
            tile = frontier.partial_tile(level) if index == full else b""
            expected = width
        if len(tile) < expected * HASH_BYTES:
            raise InvalidProof(f"Tile {index} of level {level} has {len(tile)} bytes.")
        return tile[: width * HASH_BYTES]

    return read


class _Nodes:
    """The hashes of subtrees of a tree of `size` leaves; each tile is read once."""

    def __init__(self, size: int, read: TileReader) -> None:
        self._size = size
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}

    def perfect(self, start: int, height: int) -> bytes:
        """Return the root of the 2**height leaves from `start`, a multiple of 2**height."""
        level, rest = divmod(height, TILE_HEIGHT)
        index, offset = divmod(start >> TILE_HEIGHT * level, TILE_WIDTH)
        tile = self._tile(level, index)
        return _perfect_root(tile[offset * HASH_BYTES : (offset + (1 << rest)) * HASH_BYTES])

    def span(self, start: int, end: int) -> bytes:
        """RFC 6962's MTH(D[start:end]), for the ranges that its proofs consist of."""
        root = b""
        for at, height in reversed(list(_perfect_ranges(start, end))):
            left = self.perfect(at, height)
            root = node_hash(left, root) if root else left
        return root

    def _tile(self, level: int, index: int) -> bytes:
        tile = self._tiles.get((level, index))
        if tile is None:
            width = min(TILE_WIDTH, (self._size >> TILE_HEIGHT * level) - index * TILE_WIDTH)
            tile = self._read(level, index, width)
            if len(tile) != width * HASH_BYTES:
                raise InvalidProof(f"Tile {index} of level {level} has {len(tile)} bytes.")
            self._tiles[level, index] = tile
        return tile


def _perfect_ranges(start: int, end: int) -> Iterator[tuple[int, int]]:
    """`(start, height)` of the perfect subtrees that [start, end) consists of, largest first."""
    while start < end:
        height = (end - start).bit_length() - 1
        yield start, height
        start += 1 << height


def _split(start: int, end: int) -> int:
    """Where RFC 6962 splits a range: at the largest power of two smaller than its length."""
    return start + (1 << (end - start - 1).bit_length() - 1)


class CompactRange:
    """Recomputes a root from leaf hashes that stream by: constant memory, one hash a leaf.

    `peaks` are the roots of the perfect subtrees that the first `size` leaves consist of, largest
    first. Start at 0 with none, or resume behind a range with the `left` of its `Flanks`.
    Raises InvalidProof where `peaks` do not fit `size`.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self._peaks = list(peaks)
        _check_hashes(self._peaks)
        if size < 0 or len(self._peaks) != size.bit_count():
            raise InvalidProof(f"{len(self._peaks)} subtrees cannot make up {size} leaves.")
        self.size = size

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The state, to be resumed with later."""
        return tuple(self._peaks)

    def add(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        peaks, merged, node = self._peaks, self.size, leaf
        while merged & 1:
            node = sha256(b"\x01" + peaks.pop() + node).digest()
            merged >>= 1
        peaks.append(node)
        self.size += 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Append many leaf hashes."""
        for leaf in leaf_hashes:
            self.add(leaf)

    def root(self) -> bytes:
        """Return the root of everything so far."""
        return self.root_in(self.size, ())

    def root_in(self, size: int, right: Sequence[bytes]) -> bytes:
        """Return the root of the tree of `size` of which this is the beginning.

        `right` is that of the `Flanks` of a range ending here. Raises InvalidProof where it does
        not fit.
        """
        _check_hashes(right)
        if size < self.size or (size and not self.size):
            raise InvalidProof(f"{self.size} leaves cannot show the root of a tree of {size}.")
        height = (self.size & -self.size).bit_length() - 1 if self.size else 0  # the last peak's
        sides = _sides((self.size - 1) >> height, (size - 1) >> height)
        if sides.count("right") != len(right):
            raise InvalidProof("The range proof has the wrong length.")
        peaks, siblings = list(self._peaks), list(reversed(right))
        node = peaks.pop() if peaks else EMPTY_ROOT
        for side in sides:
            node = (
                node_hash(peaks.pop(), node) if side == "left" else node_hash(node, siblings.pop())
            )
        return node


def root_at(size: int, read: TileReader) -> bytes:
    """Return the root the tree had at `size`. Reads one tile a level, the right-most."""
    return _Nodes(size, read).span(0, size) if size else EMPTY_ROOT


def frontier_at(size: int, read: TileReader) -> Frontier:
    """Return the frontier that the tree had at `size`: one tile a level, none wholly before it."""
    tiles = [
        read(level, size >> TILE_HEIGHT * (level + 1), width)
        for level, width in enumerate(_partial_widths(size))
        if width
    ]
    return Frontier(size, b"".join(tiles))


def inclusion_proof(index: int, size: int, read: TileReader) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size`, RFC 6962 section 2.1.1.

    Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"A tree of {size} has no leaf {index}.")
    nodes = _Nodes(size, read)
    return [nodes.span(*span) for span in _siblings(index, size)]


def _siblings(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges beside the path from leaf `index` up to the root, lowest first."""
    start, end = 0, size
    ranges = []
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_proof(old_size: int, new_size: int, read: TileReader) -> list[bytes]:
    """Return the proof that the tree of `new_size` extends that of `old_size`, RFC 6962 2.1.2.

    Empty where `old_size` is 0 or `new_size`. Raises ValueError where it is larger.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"Size {old_size} does not come before {new_size}.")
    if old_size == 0:
        return []
    start, end = 0, new_size
    ranges = []
    while end != old_size:
        middle = _split(start, end)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:
        ranges.append((start, end))
    nodes = _Nodes(new_size, read)
    return [nodes.span(*span) for span in reversed(ranges)]


class Flanks(NamedTuple):
    """What joins the leaves [first, end) to a root: subtree hashes before and behind them.

    `left` is largest subtree first, `right` nearest first. At most 2 * 64 hashes, usually about 30.
    """

    left: tuple[bytes, ...]
    right: tuple[bytes, ...]


def flanks(first: int, end: int, size: int, read: TileReader) -> Flanks:
    """Return the subtree hashes that join the leaves [first, end) to the root at `size`.

    Check: `CompactRange(first, left)`, extended by the leaf hashes, has `root_in(size, right)`.
    Raises ValueError where there is no such range.
    """
    if not 0 <= first < end <= size:
        raise ValueError(f"A tree of {size} has no leaves {first} to {end}.")
    nodes = _Nodes(size, read)
    left = [nodes.perfect(*span) for span in _perfect_ranges(0, first)]
    right = [nodes.span(*span) for span in _siblings(end - 1, size) if span[0] >= end]
    return Flanks(tuple(left), tuple(right))


def verify_inclusion(
    index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that `leaf` (a leaf hash) is number `index` under `root`. Raises InvalidProof."""
    _check_hashes([leaf, root, *proof])
    if not 0 <= index < size:
        raise InvalidProof(f"A tree of {size} has no leaf {index}.")
    sides = _sides(index, size - 1)
    if len(sides) != len(proof):
        raise InvalidProof("The inclusion proof has the wrong length.")
    node = leaf
    for side, sibling in zip(sides, proof, strict=True):
        node = node_hash(sibling, node) if side == "left" else node_hash(node, sibling)
    _check_equal(node, root, f"Leaf {index} is not in the tree of {size}.")


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `new_size` extends that of `old_size`. Raises InvalidProof.

    Every tree extends the empty one.
    """
    _check_hashes([old_root, new_root, *proof])
    if not 0 <= old_size <= new_size:
        raise InvalidProof(f"A tree of {new_size} cannot extend one of {old_size}.")
    if old_size in {0, new_size}:
        if proof:
            raise InvalidProof("The consistency proof is too long.")
        expected = new_root if old_size else EMPTY_ROOT
        _check_equal(old_root, expected, f"The root at {old_size} is another.")
        return
    path = list(proof)
    if old_size.bit_count() == 1:  # a perfect tree is itself a node of the new one
        path.insert(0, old_root)
    height = (old_size & -old_size).bit_length() - 1
    sides = _sides((old_size - 1) >> height, (new_size - 1) >> height)
    if len(path) != len(sides) + 1:
        raise InvalidProof("The consistency proof has the wrong length.")
    old = new = path[0]
    for side, sibling in zip(sides, path[1:], strict=True):
        if side == "left":
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    _check_equal(old, old_root, f"The old root is not that of the first {old_size} leaves.")
    _check_equal(new, new_root, f"The new root does not extend the tree of {old_size}.")


def _sides(position: int, last: int) -> list[Literal["left", "right"]]:
    """On which side of node `position` each sibling stands, up to the root.

    `last` is the right-most node of the same level; where it has no sibling it is promoted, so
    that level is skipped. This is the walk of RFC 9162 sections 2.1.3.2 and 2.1.4.2.
    """
    sides: list[Literal["left", "right"]] = []
    while last > 0:
        if position & 1:
            sides.append("left")
        elif position < last:
            sides.append("right")
        position, last = position >> 1, last >> 1
    return sides


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise InvalidProof("A hash in the proof does not have 32 bytes.")


def _check_equal(computed: bytes, expected: bytes, message: str) -> None:
    if computed != expected:
        raise InvalidProof(message)
