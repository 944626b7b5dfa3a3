"""Which clips show the same footage: found by sorting, never by comparing all with all.

Candidates: two pictures that share three of the eight bytes of their hashes lie side by side once all hashes are
sorted by these bytes; that is done for several choices of three (Charikar's neighbours in permuted order). Clips whose
pictures tell nothing, or are those of a crowd (a card before every film, a station's logo), are sorted by three of the
four bytes of each moment of their sound. Only neighbours are compared, first by one hash, then clip by clip. So time
and memory grow with the number of clips, not with its square.

What makes two clips alike, where both have a picture that tells something (contrast) and sound that does:

- four of five pictures of each are alike, whichever shows when, in all but `max_picture_bits` of 64 bits, **and** the
  sound is, shifted by at most `MAX_SHIFT`: a share of at most `max_sound_error` of its bits differs;
- sound that tells nothing (silence, a steady tone) on both: the pictures decide, when they are alike one by one in
  their order and differ among themselves: a still or a black picture is no evidence;
- pictures that tell nothing on both, or none: the sound decides, at three quarters of `max_sound_error` over at least
  three seconds;
- one has what the other lacks: not alike.

Shapes: N clips, P pictures, V views, K pairs, T moments of sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valor_data.filter.signatures import Signatures

Pairs = NDArray[np.int64]
"""Two clips a row, the smaller number first, `[K, 2]`."""

PICTURE_KEYS = ((0, 1, 4), (2, 3, 6), (0, 2, 5), (1, 3, 7), (0, 3, 6), (1, 2, 7), (4, 5, 6), (3, 5, 7))
"""Bytes of a hash (lowest first) that neighbours share. Eight choices find all of the copies of the benchmark."""

SOUND_KEYS = ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3))
NUM_NEIGHBOURS = 4
"""Pictures or moments behind one that it is compared with, of those that share its bytes."""

CROWD = 64
"""Where more pictures than this share their bytes, their clips are looked for by their sound as well."""

MIN_PICTURES = 2
"""Pictures that must tell something, that a clip is judged by its pictures."""

PICTURE_SHARE = 0.8
"""Share of the pictures that tell something, on both sides, which must be alike."""

MIN_MOMENTS, MIN_MOMENTS_ALONE = 10, 30
"""Tenths of a second of sound that tells something, that a clip is judged by its sound; by its sound alone."""

MAX_SHIFT = 25
"""Tenths of a second by which the sound of two clips may be shifted."""

ALONE = 0.75
"""Share of the error allowed, where the sound decides alone."""

_BLOCK = 8
_BLOCK_ERROR = 0.35
_CHUNK_PAIRS = 20_000
_PART_ENTRIES = 8_000_000


@dataclass(frozen=True, slots=True)
class Closeness:
    """How much alike clips may differ: bits of 64 in a picture's hash, share of bits in the sound."""

    max_picture_bits: int = 12
    max_sound_error: float = 0.33


def alike_pairs(signatures: Signatures, closeness: Closeness) -> Pairs:
    """All pairs of clips found alike, sorted."""
    found = _of_numbers(_candidates(signatures, closeness), len(signatures))
    kept = [pairs[are_alike(signatures, pairs, closeness)] for pairs in _chunks(found)]
    return np.concatenate([np.zeros((0, 2), np.int64), *kept])


def _candidates(signatures: Signatures, closeness: Closeness) -> NDArray[np.int64]:
    """Pairs worth a look, a number each (first × N + second), sorted."""
    by_picture = has_pictures(signatures)
    by_sound = ~by_picture & (signatures.num_audible >= MIN_MOMENTS_ALONE)
    crowds: list[NDArray[np.int64]] = []
    seen = _picture_neighbours(signatures, np.flatnonzero(by_picture), closeness, crowds)
    numbers = _numbered(seen, len(signatures))
    for crowd in crowds:
        by_sound[crowd] = True
    heard = _numbered(_sound_neighbours(signatures, np.flatnonzero(by_sound)), len(signatures))
    return np.union1d(numbers, heard)


def _numbered(found: Iterator[Pairs], num_clips: int) -> NDArray[np.int64]:
    """Pairs as numbers, each once, sorted; brought together whenever a few million have come."""
    numbers, waiting = [np.zeros(0, np.int64)], 0
    for pairs in found:
        numbers.append(pairs.min(axis=1) * num_clips + pairs.max(axis=1))
        waiting += len(pairs)
        if waiting > _PART_ENTRIES:
            numbers, waiting = [np.unique(np.concatenate(numbers))], 0
    return np.unique(np.concatenate(numbers))


def _of_numbers(numbers: NDArray[np.int64], num_clips: int) -> Pairs:
    return np.stack(np.divmod(numbers, max(1, num_clips)), axis=1)


def _chunks(pairs: Pairs) -> Iterator[Pairs]:
    for first in range(0, len(pairs), _CHUNK_PAIRS):
        yield pairs[first : first + _CHUNK_PAIRS]


def has_pictures(signatures: Signatures) -> NDArray[np.bool_]:
    """Whether a clip is judged by its pictures, `[N]`."""
    enough: NDArray[np.bool_] = signatures.num_telling >= MIN_PICTURES
    return enough


def has_sound(signatures: Signatures) -> NDArray[np.bool_]:
    """Whether a clip is judged by its sound, `[N]`."""
    return signatures.num_audible >= MIN_MOMENTS


def _picture_neighbours(
    signatures: Signatures, clips: NDArray[np.int64], closeness: Closeness, crowds: list[NDArray[np.int64]]
) -> Iterator[Pairs]:
    """Pairs with a picture in common; clips of crowds are added to `crowds`."""
    _, num_pictures, num_views = signatures.hashes.shape
    tells = np.repeat(signatures.tells[clips], num_views, axis=1)
    hashes = signatures.hashes[clips].reshape(len(clips), num_pictures * num_views)[tells]
    owners = np.repeat(clips, tells.sum(axis=1))
    as_bytes = hashes.astype("<u8").view(np.uint8).reshape(-1, 8)
    for key in PICTURE_KEYS:
        order_of_bytes = [*(b for b in range(8) if b not in key), *key]  # the last is the highest
        permuted = np.ascontiguousarray(as_bytes[:, order_of_bytes]).view("<u8").reshape(-1)
        for one, other in _neighbours(permuted, owners, 40, crowds):
            near = np.bitwise_count(hashes[one] ^ hashes[other]) <= closeness.max_picture_bits
            yield np.stack([owners[one[near]], owners[other[near]]], axis=1)


def _neighbours(
    values: NDArray[np.uint64], owners: NDArray[np.int64], low_bits: int, crowds: list[NDArray[np.int64]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions of entries that stand near each other once sorted, and share all bits above the lowest `low_bits`.

    Of a clip's entries that are equal only one counts. Among many that share their high bits each is also compared
    with the first, so that a crowd of copies hangs together.
    """
    order = np.argsort(values, kind="stable")
    is_again = np.zeros(len(order), bool)
    is_again[1:] = (values[order[1:]] == values[order[:-1]]) & (owners[order[1:]] == owners[order[:-1]])
    order = order[~is_again]
    keys = values[order] >> np.uint64(low_bits)
    for step in range(1, NUM_NEIGHBOURS + 1):
        same = np.flatnonzero((keys[step:] == keys[:-step]) & (owners[order[step:]] != owners[order[:-step]]))
        yield order[same], order[same + step]
    if len(order):
        starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
        sizes = np.diff(np.concatenate([starts, [len(keys)]]))
        crowds.append(np.unique(owners[order[np.repeat(sizes > CROWD, sizes)]]))
        crowded = sizes > NUM_NEIGHBOURS + 1
        firsts = np.repeat(order[starts[crowded]], sizes[crowded])
        members = order[np.repeat(crowded, sizes)]
        other = owners[firsts] != owners[members]
        yield firsts[other], members[other]


def _sound_neighbours(signatures: Signatures, clips: NDArray[np.int64]) -> Iterator[Pairs]:
    """Pairs whose sound has a moment in common, and is alike in the moments after it."""
    owners, places = _moments(signatures, clips)
    values = signatures.sound[places]
    usable = signatures.audible[places] & (places + _BLOCK <= signatures.offsets[owners + 1])
    owners, places, values = owners[usable], places[usable], values[usable]
    as_bytes = values.astype("<u4").view(np.uint8).reshape(-1, 4)
    for key in SOUND_KEYS:
        order_of_bytes = [*(b for b in range(4) if b not in key), *key]
        permuted = np.ascontiguousarray(as_bytes[:, order_of_bytes]).view("<u4").reshape(-1)
        num_parts = 1 << max(0, (len(permuted) // _PART_ENTRIES).bit_length())
        part_of = permuted >> np.uint32(32 - num_parts.bit_length() + 1) if num_parts > 1 else None
        for part in range(num_parts):
            mine = np.arange(len(permuted)) if part_of is None else np.flatnonzero(part_of == part)
            for one, other in _neighbours(permuted[mine].astype(np.uint64), owners[mine], 8, []):
                for first in range(0, len(one), _PART_ENTRIES // _BLOCK):
                    some = slice(first, first + _PART_ENTRIES // _BLOCK)
                    yield _with_like_blocks(signatures, owners, places, mine[one[some]], mine[other[some]])


def _with_like_blocks(
    signatures: Signatures, owners: NDArray[np.int64], places: NDArray[np.int64], one: Pairs, other: Pairs
) -> Pairs:
    steps = np.arange(_BLOCK)
    here, there = (signatures.sound[places[at][:, None] + steps] for at in (one, other))
    near = np.bitwise_count(here ^ there).sum(axis=1) <= _BLOCK_ERROR * 32 * _BLOCK
    return np.stack([owners[one[near]], owners[other[near]]], axis=1)


def _moments(signatures: Signatures, clips: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every moment of some clips: whose it is, and where it lies."""
    lengths = (signatures.offsets[1:] - signatures.offsets[:-1])[clips]
    owners = np.repeat(clips, lengths)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return owners, signatures.offsets[owners] + within


def are_alike(signatures: Signatures, pairs: Pairs, closeness: Closeness) -> NDArray[np.bool_]:
    """Whether the two clips of each pair show the same footage, `[K]`."""
    one, other = pairs[:, 0], pairs[:, 1]
    alike = np.zeros(len(pairs), bool)
    sees, hears = has_pictures(signatures), signatures.num_audible
    with_pictures, without = sees[one] & sees[other], ~sees[one] & ~sees[other]
    with_sound = (hears[one] >= MIN_MOMENTS) & (hears[other] >= MIN_MOMENTS)
    without_sound = (hears[one] < MIN_MOMENTS) & (hears[other] < MIN_MOMENTS)
    both = np.flatnonzero(with_pictures & with_sound)
    both = both[_pictures_alike(signatures, pairs[both], closeness)]
    alike[both] = _sound_alike(signatures, pairs[both], MIN_MOMENTS, closeness.max_sound_error)
    seen = np.flatnonzero(with_pictures & without_sound)
    alike[seen] = _pictures_alike_in_order(signatures, pairs[seen], closeness)
    heard = np.flatnonzero(without & with_sound)
    alike[heard] = _sound_alike(signatures, pairs[heard], MIN_MOMENTS_ALONE, ALONE * closeness.max_sound_error)
    return alike


def _pictures_alike(signatures: Signatures, pairs: Pairs, closeness: Closeness) -> NDArray[np.bool_]:
    """Whether enough pictures of one clip and of the other are like some picture of its partner."""
    alike = np.zeros(len(pairs), bool)
    for first in range(0, len(pairs), _CHUNK_PAIRS):
        some = pairs[first : first + _CHUNK_PAIRS]
        bits = _bits(signatures, some)  # [K, P, P]
        near = bits <= closeness.max_picture_bits
        shares = []
        for side, axis in ((0, 2), (1, 1)):
            tells = signatures.tells[some[:, side]]
            shares.append((near.any(axis=axis) & tells).sum(axis=1) / np.maximum(1, tells.sum(axis=1)))
        alike[first : first + _CHUNK_PAIRS] = np.minimum(*shares) >= PICTURE_SHARE
    return alike


def _bits(signatures: Signatures, pairs: Pairs) -> NDArray[np.uint8]:
    """Differing bits of each picture of one clip and each of the other, over their views the fewest, `[K, P, P]`."""
    one, other = signatures.hashes[pairs[:, 0]], signatures.hashes[pairs[:, 1]]
    fewest = np.full((len(pairs), one.shape[1], other.shape[1]), 64, np.uint8)
    for v in range(one.shape[2]):
        for w in range(other.shape[2]):
            np.minimum(fewest, np.bitwise_count(one[:, :, None, v] ^ other[:, None, :, w]), out=fewest)
    tells = signatures.tells[pairs[:, 0]][:, :, None] & signatures.tells[pairs[:, 1]][:, None, :]
    fewest[~tells] = 64
    return fewest


def _pictures_alike_in_order(signatures: Signatures, pairs: Pairs, closeness: Closeness) -> NDArray[np.bool_]:
    """Whether all pictures but one are alike one by one, and tell the moments of their clip apart."""
    alike = np.zeros(len(pairs), bool)
    for first in range(0, len(pairs), _CHUNK_PAIRS):
        some = pairs[first : first + _CHUNK_PAIRS]
        bits = _bits(signatures, some)
        num_pictures = bits.shape[1]
        in_order = np.diagonal(bits, axis1=1, axis2=2) <= closeness.max_picture_bits
        own = _bits(signatures, np.repeat(some[:, :1], 2, axis=1))
        apart = (own > closeness.max_picture_bits) & (own < 64)
        differing = (apart.sum(axis=(1, 2)) / 2) >= num_pictures  # of ten pairs of five pictures, half
        alike[first : first + _CHUNK_PAIRS] = (in_order.sum(axis=1) >= num_pictures - 1) & differing
    return alike


def _sound_alike(signatures: Signatures, pairs: Pairs, least: int, max_error: float) -> NDArray[np.bool_]:
    """Whether the sound is alike at some shift, over at least half of what there is to be told."""
    return sound_errors(signatures, pairs, least) <= max_error


def sound_errors(signatures: Signatures, pairs: Pairs, least: int = MIN_MOMENTS) -> NDArray[np.float64]:
    """Share of differing bits at the best shift, `[K]`; 1 where too little sound is common.

    Args:
        signatures: of the clips.
        pairs: the clips.
        least: moments that must be told in common.
    """
    errors = np.ones(len(pairs))
    chunk = max(1, _CHUNK_PAIRS // 10)
    for first in range(0, len(pairs), chunk):
        some = pairs[first : first + chunk]
        (one, heard), (other, also_heard) = (_padded(signatures, some[:, side]) for side in (0, 1))
        enough = np.maximum(least, 0.5 * np.minimum(heard.sum(axis=1), also_heard.sum(axis=1)))
        for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
            length = min(one.shape[1] - max(0, shift), other.shape[1] - max(0, -shift))
            if length < least:
                continue
            here = slice(max(0, shift), max(0, shift) + length)
            there = slice(max(0, -shift), max(0, -shift) + length)
            common = heard[:, here] & also_heard[:, there]
            told = common.sum(axis=1)
            wrong = (np.bitwise_count(one[:, here] ^ other[:, there]) * common).sum(axis=1)
            error = np.where(told >= enough, wrong / np.maximum(1, 32 * told), 1.0)
            errors[first : first + chunk] = np.minimum(errors[first : first + chunk], error)
    return errors


def _padded(signatures: Signatures, clips: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Sound of some clips side by side, `[K, T]`, filled up with what is not audible."""
    starts, ends = signatures.offsets[clips], signatures.offsets[clips + 1]
    longest = int((ends - starts).max(initial=1))
    places = starts[:, None] + np.arange(longest)
    inside = places < ends[:, None]
    places = np.where(inside, places, 0)
    if not len(signatures.sound):
        return np.zeros(places.shape, np.uint32), np.zeros(places.shape, bool)
    return signatures.sound[places], signatures.audible[places] & inside


def describe_pair(signatures: Signatures, one: int, other: int, closeness: Closeness) -> str:
    """What two clips have in common, in words."""
    pair = np.array([[one, other]])
    told = []
    if has_pictures(signatures)[[one, other]].all():
        bits = _bits(signatures, pair)[0].min(axis=1)
        tells = signatures.tells[one]
        near = int((bits[tells] <= closeness.max_picture_bits).sum())
        told.append(f"{near} of {int(tells.sum())} pictures alike, the closest differ by {int(bits.min())} bits of 64")
    if has_sound(signatures)[[one, other]].all():
        told.append(f"{float(sound_errors(signatures, pair)[0]):.0%} of the bits of their sound differ")
    return ", ".join(told)
