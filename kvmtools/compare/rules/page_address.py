"""Rules about the way back from a highmem page to its slot: ``page_address_htable``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from kvmtools.compare import subjects
from kvmtools.compare.case import Case
from kvmtools.compare.rule import Examination, Rule, violations
from kvmtools.findings import Finding
from kvmtools.observe.kmap.page_address import Bucket, HashEntry

SOURCE = "set_page_address, page_address: mm/highmem.c, 6.1 (since 2.6)"
LOOK = "kvmtools pkmap: the slots beside their hash entries; a list_head overwritten, or a race without kmap_lock?"
LOCKS = ("kmap_lock", "page_address_htable")


def entry_finding(case: Case, entry: HashEntry, expected: str, observed: str, **more: Any) -> Finding:
    """A finding about a ``struct page_address_map``, which also accounts for the slot that it names."""
    fields = {
        "virtual": entry.address,
        "physical": case.physical(entry.address),
        "symbol": entry_name(entry),
        "touches": _slots(case, entry),
    }
    return Finding(entry_name(entry), expected, observed, **{**fields, **more})


def entry_name(entry: HashEntry) -> str:
    """The entry as a subject: by its index in ``page_address_maps`` if it lies there."""
    if entry.index is None:
        return f"page_address_map at {entry.address:#x}"
    return f"page_address_maps[{entry.index}]"


def _slots(case: Case, entry: HashEntry) -> tuple[str, ...]:
    """The slots that an entry speaks for, by its place and by its address."""
    numbers = (entry.index, case.slot_of(entry.virtual))
    return tuple(subjects.slot(number) for number in numbers if number is not None)


def slot_hashed(case: Case) -> Examination:
    """Exactly one hash entry for each mapped slot, and it names the slot's page."""
    pkmap = case.pkmap
    entries: defaultdict[int, list[HashEntry]] = defaultdict(list)
    for entry in case.hash_entries:
        number = case.slot_of(entry.virtual)
        if number is not None:
            entries[number].append(entry)
    findings: list[Finding] = []
    slots = sorted(set(np.flatnonzero(pkmap.counts != 0).tolist()) | entries.keys())
    for number in slots:
        found, count, pte = entries[number], int(pkmap.counts[number]), int(pkmap.ptes[number])
        pfn = int(case.pkmap_pfns[number])
        page = case.page_of(pfn)
        if count <= 0 and not found:
            continue
        if count <= 0 or len(found) != 1:
            expected = f"{'no' if count <= 0 else 'one'} hash entry (pkmap_count is {count})"
            observed = f"{len(found)} hash entries"
        elif found[0].page != page:
            expected = (
                f"page {page:#x} (pfn {pfn:#x}, from the slot's PTE)"
                if page
                else f"no page: pfn {pfn:#x} has none"
            )
            observed = f"page {found[0].page:#x} ({case.name_page(found[0].page)})"
        else:
            continue
        names = tuple(entry_name(entry) for entry in found)
        findings.append(
            Finding(
                subjects.slot(number),
                expected,
                observed,
                virtual=case.area.address_of(number),
                pfn=pfn if page else None,
                symbol=names[0] if names else f"page_address_htable, pkmap_count[{number}]",
                raw=pte,
                touches=(*names, *(subjects.slot(entry.index) for entry in found if entry.index is not None)),
            )
        )
    return violations(len(slots), findings, lambda found: found)


def hash_bucket(case: Case) -> Examination:
    """An entry hangs in the bucket that its page hashes to, or page_address() does not find it."""

    def spell(row: tuple[Bucket, HashEntry]) -> Finding:
        bucket, entry = row
        expected = case.bucket_of(entry.page)
        return entry_finding(
            case, entry, f"in bucket {expected}", f"in bucket {bucket.index}", raw=entry.page
        )

    rows = [(bucket, entry) for bucket in case.pkmap.buckets for entry in bucket.entries]
    return violations(len(rows), [row for row in rows if case.bucket_of(row[1].page) != row[0].index], spell)


def _slots_of(case: Case, bucket: int) -> Iterator[str]:
    """The mapped slots whose entries belong in a bucket: what a broken list loses."""
    for number in np.flatnonzero(case.pkmap.counts >= 1).tolist():
        page = case.page_of(int(case.pkmap_pfns[number]))
        if page is not None and case.bucket_of(page) == bucket:
            yield subjects.slot(number)


def hash_lists(case: Case) -> Examination:
    """Every bucket is a sound circular list."""

    def spell(bucket: Bucket) -> Finding:
        touched = [entry_name(entry) for entry in bucket.entries]
        return Finding(
            subjects.bucket(bucket.index),
            "a circular list whose prev links are the inverse of its next links",
            str(bucket.broken),
            virtual=bucket.address,
            physical=case.physical(bucket.address),
            symbol=f"page_address_htable[{bucket.index}].lh",
            touches=(*touched, *_slots_of(case, bucket.index)),
        )

    buckets = case.pkmap.buckets
    return violations(len(buckets), [bucket for bucket in buckets if bucket.broken is not None], spell)


def hash_entry_index(case: Case) -> Examination:
    """An entry speaks for a slot: that of ``page_address_maps[n]`` for slot n."""

    def spell(entry: HashEntry) -> Finding:
        slot = case.slot_of(entry.virtual)
        place = f"slot {slot}" if slot is not None else "no slot"
        expected = (
            "in page_address_maps"
            if entry.index is None
            else f"virtual {case.area.address_of(entry.index):#x}"
        )
        return entry_finding(case, entry, expected, f"virtual {entry.virtual:#x}, {place}", raw=entry.virtual)

    def speaks_for_none(entry: HashEntry) -> bool:
        slot = case.slot_of(entry.virtual)
        return slot is None or entry.index != slot

    entries = case.hash_entries
    return violations(len(entries), [entry for entry in entries if speaks_for_none(entry)], spell)


RULES = (
    Rule(
        "pkmap.hash-lists",
        "every bucket of page_address_htable is a circular, doubly linked list",
        f"{SOURCE}; include/linux/list.h",
        "buckets",
        LOOK,
        check=hash_lists,
        about="page_address_htable",
        exceptions="inside the bucket's lock",
        invariants=(8,),
        needs=("pkmap",),
        locks=LOCKS,
    ),
    Rule(
        "pkmap.hash-entry-index",
        "every hash entry has the address of a pkmap slot: page_address_maps[n] that of slot n",
        "set_page_address: mm/highmem.c, 5.10, 6.1, 6.12, 7.2",
        "hash entries",
        LOOK,
        check=hash_entry_index,
        about="struct page_address_map",
        invariants=(7, 9),
        needs=("pkmap",),
        locks=LOCKS,
        defers_to=("pkmap.hash-lists",),
    ),
    Rule(
        "pkmap.slot-hashed",
        "a slot has exactly one hash entry if its pkmap_count is 1 or more, none otherwise, and the entry's page is "
        "the page that the slot's PTE leads to, so that no page has two entries",
        SOURCE,
        "slots",
        LOOK,
        check=slot_hashed,
        about="page_address_htable",
        exceptions="inside kmap_lock, between the count and the hash",
        invariants=(6,),
        needs=("pkmap",),
        locks=LOCKS,
        defers_to=(
            "pkmap.count-not-negative",
            "pkmap.pte-matches-count",
            "pkmap.pte-in-highmem",
            "pkmap.pages-distinct",
            "pkmap.hash-lists",
            "pkmap.hash-entry-index",
        ),
    ),
    Rule(
        "pkmap.hash-bucket",
        "every hash entry is in bucket hash_ptr(page, 7) = (u32)(page * 0x61c88647) >> 25",
        f"page_slot: mm/highmem.c; hash_ptr, GOLDEN_RATIO_32: include/linux/hash.h, 6.1; {SOURCE}",
        "hash entries",
        LOOK,
        check=hash_bucket,
        about="page_address_htable",
        exceptions="2.6.18 multiplies by 0x9e370001",
        invariants=(8,),
        needs=("pkmap",),
        locks=LOCKS,
        defers_to=("pkmap.hash-lists", "pkmap.slot-hashed"),
    ),
)
