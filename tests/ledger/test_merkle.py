"""The tree against RFC 6962's published vectors and against its own recursive definition."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_log.exceptions import EncodingError, InvalidProof
from audit_log.ledger import merkle
from audit_log.ledger.merkle import CompactRange, Frontier, TileReader

# The test tree of the Certificate Transparency implementations.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(root)
    for root in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

# Just past where a tile of level 1 becomes full and level 2 begins.
LARGEST = 256 * 256 + 256 + 3
EDGES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537, 65791, 65792, LARGEST]
sizes = st.one_of(st.sampled_from(EDGES), st.integers(0, 600), st.integers(0, LARGEST))


@cache
def leaf(number: int) -> bytes:
    return merkle.leaf_hash(b"%d" % number)


@cache
def mth(start: int, end: int) -> bytes:
    """RFC 6962 section 2.1 by the letter."""
    if start == end:
        return merkle.EMPTY_ROOT
    if end - start == 1:
        return leaf(start)
    middle = start + k(end - start)
    return merkle.node_hash(mth(start, middle), mth(middle, end))


def k(n: int) -> int:
    power = 1
    while power * 2 < n:
        power *= 2
    return power


def path(m: int, start: int, end: int) -> list[bytes]:
    """RFC 6962 section 2.1.1 by the letter."""
    if end - start == 1:
        return []
    split = k(end - start)
    if m < split:
        return [*path(m, start, start + split), mth(start + split, end)]
    return [*path(m - split, start + split, end), mth(start, start + split)]


def subproof(m: int, start: int, end: int, *, known: bool) -> list[bytes]:
    """RFC 6962 section 2.1.2 by the letter."""
    if m == end - start:
        return [] if known else [mth(start, end)]
    split = k(end - start)
    if m <= split:
        return [*subproof(m, start, start + split, known=known), mth(start + split, end)]
    return [
        *subproof(m - split, start + split, end, known=False),
        mth(start, start + split),
    ]


class Stored(NamedTuple):
    frontier: Frontier
    tiles: dict[tuple[int, int], bytes]

    @property
    def read(self) -> TileReader:
        return merkle.frontier_reader(self.frontier, lambda level, index: self.tiles[level, index])


@cache
def stored(size: int, step: int = 500) -> Stored:
    """A tree appended to `step` leaves at a time, as the writer does."""
    tree = Stored(Frontier(), {})
    for start in range(0, size, step):
        leaves = [leaf(number) for number in range(start, min(start + step, size))]
        for tile in tree.frontier.extend(leaves):
            tree.tiles[tile.level, tile.index] = tile.hashes
    return tree


def published(size: int = 8) -> Stored:
    frontier = Frontier()
    frontier.extend([merkle.leaf_hash(entry) for entry in LEAVES[:size]])
    return Stored(frontier, {})


def returning(tile: bytes, level: int, index: int) -> bytes:
    return tile


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_published_tree(size):
    compact = CompactRange()
    compact.extend(merkle.leaf_hash(entry) for entry in LEAVES[:size])

    assert published(size).frontier.root() == ROOTS[size]
    assert compact.root() == ROOTS[size]
    assert merkle.root_at(size, published().read) == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_published_tree(index, size):
    proof = merkle.inclusion_proof(index, size, published().read)

    assert [value.hex() for value in proof] == INCLUSION[index, size]
    merkle.verify_inclusion(index, size, merkle.leaf_hash(LEAVES[index]), ROOTS[size], proof)


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_published_tree(old, new):
    proof = merkle.consistency_proof(old, new, published().read)

    assert [value.hex() for value in proof] == CONSISTENCY[old, new]
    merkle.verify_consistency(old, new, ROOTS[old], ROOTS[new], proof)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=5))
def test_frontier_grown_in_any_steps_has_the_recursive_root(steps):
    frontier, tiles = Frontier(), {}
    for step in steps:
        leaves = [leaf(number) for number in range(frontier.size, frontier.size + step)]
        for tile in frontier.extend(leaves):
            assert (tile.level, tile.index) not in tiles
            tiles[tile.level, tile.index] = tile.hashes
        frontier = Frontier(frontier.size, frontier.partial)

    assert frontier.size == sum(steps)
    assert frontier.root() == mth(0, frontier.size)
    assert len(tiles) == frontier.size // 256


def test_tiles_fill_in_order_and_hold_the_subtree_roots():
    tree = stored(LARGEST)

    assert sorted(tree.tiles) == [(0, index) for index in range(257)] + [(1, 0)]
    assert tree.tiles[0, 3] == b"".join(leaf(number) for number in range(768, 1024))
    assert tree.tiles[1, 0] == b"".join(mth(n * 256, (n + 1) * 256) for n in range(256))
    assert tree.frontier.partial_tile(0) == leaf(65792) + leaf(65793) + leaf(65794)
    assert tree.frontier.partial_tile(1) == mth(65536, 65792)
    assert tree.frontier.partial_tile(2) == mth(0, 65536)
    assert tree.frontier.partial_tile(3) == b""


def test_one_call_may_fill_many_tiles():
    assert stored(LARGEST, step=LARGEST).tiles == stored(LARGEST).tiles
    assert stored(LARGEST, step=LARGEST).frontier.partial == stored(LARGEST).frontier.partial


def test_extending_by_nothing_changes_nothing():
    frontier = Frontier(2, leaf(0) + leaf(1))

    assert frontier.extend([]) == []
    assert (frontier.size, frontier.partial) == (2, leaf(0) + leaf(1))


def test_frontier_takes_what_drivers_return():
    frontier = Frontier(1, memoryview(leaf(0)))
    frontier.extend([leaf(1)])

    assert frontier.root() == mth(0, 2)


@pytest.mark.parametrize(
    ("size", "hashes"), [(1, b""), (0, bytes(32)), (256, bytes(31)), (257, bytes(32)), (-1, b"")]
)
def test_frontier_refuses_bytes_that_do_not_fit_its_size(size, hashes):
    with pytest.raises(EncodingError):
        Frontier(size, hashes)


def test_frontier_refuses_a_hash_of_another_length_and_stays_as_it_was():
    frontier = Frontier()
    with pytest.raises(EncodingError):
        frontier.extend([leaf(0)[:31], leaf(1) + b"x"])
    assert (frontier.size, frontier.partial) == (0, b"")


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_root_at_any_earlier_size_is_the_recursive_root(size):
    assert merkle.root_at(size, stored(LARGEST).read) == mth(0, size)


def test_root_of_a_tree_reads_no_full_tile():
    def refuse(level: int, index: int) -> bytes:
        raise AssertionError(f"read tile {index} of level {level}")

    frontier = stored(LARGEST).frontier
    assert merkle.root_at(LARGEST, merkle.frontier_reader(frontier, refuse)) == mth(0, LARGEST)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_inclusion_proofs_are_the_recursive_ones_and_hold(data):
    size = data.draw(sizes.filter(bool))
    index = data.draw(st.integers(0, size - 1))

    proof = merkle.inclusion_proof(index, size, stored(LARGEST).read)

    assert proof == path(index, 0, size)
    merkle.verify_inclusion(index, size, leaf(index), mth(0, size), proof)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes)
def test_consistency_proofs_are_the_recursive_ones_and_hold(one, other):
    old, new = sorted((one, other))

    proof = merkle.consistency_proof(old, new, stored(LARGEST).read)

    assert proof == (subproof(old, 0, new, known=True) if old else [])
    merkle.verify_consistency(old, new, mth(0, old), mth(0, new), proof)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tampered_inclusion_proofs_are_refused(data):
    size = data.draw(st.integers(2, 600))
    index = data.draw(st.integers(0, size - 1))
    proof = path(index, 0, size)
    at = data.draw(st.integers(0, len(proof) - 1))
    root = mth(0, size)
    broken = [
        (index, size, leaf(index), root, [*proof[:at], flipped(proof[at]), *proof[at + 1 :]]),
        (index, size, leaf(index), root, proof[:at] + proof[at + 1 :]),
        (index, size, leaf(index), root, [*proof, root]),
        (index, size, leaf(index), root, [*proof[:at], proof[at][:31], *proof[at + 1 :]]),
        (index, size, flipped(leaf(index)), root, proof),
        (index, size, leaf(index), flipped(root), proof),
        ((index + 1) % size, size, leaf(index), root, proof),
        (size, size, leaf(index), root, proof),
        (-1, size, leaf(index), root, proof),
    ]
    for arguments in broken:
        with pytest.raises(InvalidProof):
            merkle.verify_inclusion(*arguments)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tampered_consistency_proofs_are_refused(data):
    new = data.draw(st.integers(2, 600))
    old = data.draw(st.integers(1, new - 1))
    proof = subproof(old, 0, new, known=True)
    at = data.draw(st.integers(0, len(proof) - 1))
    old_root, new_root = mth(0, old), mth(0, new)
    broken = [
        (old, new, old_root, new_root, [*proof[:at], flipped(proof[at]), *proof[at + 1 :]]),
        (old, new, old_root, new_root, proof[:at] + proof[at + 1 :]),
        (old, new, old_root, new_root, [*proof, new_root]),
        (old, new, old_root, new_root, [*proof[:at], proof[at] + b"x", *proof[at + 1 :]]),
        (old, new, flipped(old_root), new_root, proof),
        (old, new, old_root, flipped(new_root), proof),
        (new, old, new_root, old_root, proof),
        (-1, new, old_root, new_root, proof),
    ]
    for arguments in broken:
        with pytest.raises(InvalidProof):
            merkle.verify_consistency(*arguments)


def test_a_rewritten_history_has_no_consistency_proof():
    forged = Frontier()
    forged.extend([leaf(number + (number == 3)) for number in range(20)])
    proof = merkle.consistency_proof(10, 20, merkle.frontier_reader(forged, lambda *_: b""))

    with pytest.raises(InvalidProof):
        merkle.verify_consistency(10, 20, mth(0, 10), forged.root(), proof)


def test_consistency_with_the_same_or_the_empty_tree_needs_no_proof():
    merkle.verify_consistency(0, 0, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, [])
    merkle.verify_consistency(0, 5, merkle.EMPTY_ROOT, mth(0, 5), [])
    merkle.verify_consistency(5, 5, mth(0, 5), mth(0, 5), [])
    for old, new, old_root, new_root, proof in [
        (0, 5, mth(0, 1), mth(0, 5), []),
        (0, 5, merkle.EMPTY_ROOT, mth(0, 5), [mth(0, 5)]),
        (5, 5, mth(0, 5), mth(0, 4), []),
        (5, 5, mth(0, 5), mth(0, 5), [mth(0, 5)]),
    ]:
        with pytest.raises(InvalidProof):
            merkle.verify_consistency(old, new, old_root, new_root, proof)


def test_proofs_of_what_is_not_there_are_refused():
    read = stored(300).read
    for index, size in [(-1, 300), (300, 300), (0, 0)]:
        with pytest.raises(ValueError, match="no leaf"):
            merkle.inclusion_proof(index, size, read)
    for old, new in [(-1, 5), (6, 5)]:
        with pytest.raises(ValueError, match="does not come before"):
            merkle.consistency_proof(old, new, read)
    for first, end, size in [(3, 3, 5), (-1, 2, 5), (2, 6, 5)]:
        with pytest.raises(ValueError, match="no leaves"):
            merkle.flanks(first, end, size, read)


def test_a_tile_that_is_missing_or_cut_short_proves_nothing():
    frontier = stored(600).frontier
    for tile in (b"", bytes(255 * 32)):
        read = merkle.frontier_reader(frontier, partial(returning, tile))
        with pytest.raises(InvalidProof, match="Tile 0 of level 0"):
            merkle.inclusion_proof(0, 600, read)
    with pytest.raises(InvalidProof, match="Tile 2 of level 0"):
        merkle.root_at(700, stored(600).read)  # beyond the frontier
    with pytest.raises(InvalidProof, match="Tile 0 of level 0"):
        merkle.root_at(3, lambda level, index, width: bytes(32))


def test_a_range_of_zero_width_is_not_read():
    """A size of whole tiles has an empty partial tile below, which no reader must be asked for."""
    asked = []

    def read(level: int, index: int, width: int, /) -> bytes:
        asked.append((level, index, width))
        return stored(512).read(level, index, width)

    assert merkle.root_at(512, read) == mth(0, 512)
    assert asked == [(1, 0, 2)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_range_joins_the_root_by_its_flanks(data):
    size = data.draw(st.one_of(st.integers(1, 600), st.integers(1, LARGEST)))
    first = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(first + 1, min(size, first + 300)))

    left, right = merkle.flanks(first, end, size, stored(LARGEST).read)
    compact = CompactRange(first, left)
    compact.extend(leaf(number) for number in range(first, end))

    assert compact.root() == mth(0, end)
    assert compact.root_in(size, right) == mth(0, size)
    if right:
        tampered = [*right[:-1], flipped(right[-1])]
        assert compact.root_in(size, tampered) != mth(0, size)
        with pytest.raises(InvalidProof):
            compact.root_in(size, right[:-1])
    with pytest.raises(InvalidProof):
        compact.root_in(size, [*right, mth(0, 1)])
    with pytest.raises(InvalidProof):
        compact.root_in(end - 1, right)


def test_flanks_of_a_billion_records_stay_under_two_kilobytes():
    left, right = merkle.flanks(
        987_654_321, 987_700_000, 1_000_000_000, lambda level, index, width: bytes(32 * width)
    )
    assert 32 * len(left + right) < 2048


def test_compact_range_resumes_from_its_peaks():
    compact = CompactRange()
    compact.extend(leaf(number) for number in range(300))
    resumed = CompactRange(compact.size, compact.peaks)
    resumed.extend(leaf(number) for number in range(300, 700))

    assert resumed.root() == mth(0, 700)
    assert len(resumed.peaks) == (700).bit_count()


@pytest.mark.parametrize(
    ("size", "peaks"), [(3, [bytes(32)]), (0, [bytes(32)]), (1, [bytes(31)]), (-1, [bytes(32)])]
)
def test_compact_range_refuses_peaks_that_do_not_fit(size, peaks):
    with pytest.raises(InvalidProof):
        CompactRange(size, peaks)


def test_an_empty_range_has_the_empty_root_and_no_other():
    assert CompactRange().root() == merkle.EMPTY_ROOT
    with pytest.raises(InvalidProof):
        CompactRange().root_in(5, [mth(0, 5)])
