"""Breaks of the page-address hash."""

from __future__ import annotations

from breaks.patient import Break, Patient, variable
from breaks.pkmap import entry_of, slot
from kvmtools.observe.kmap.page_address import HashEntry
from kvmtools.records import PAGE_SIZE

PAGE, VIRTUAL, LIST = "page", "virtual", "list"


def _entry(patient: Patient, number: int) -> HashEntry:
    """The hash entry of a slot."""
    return next(entry for entry in patient.healthy.hash_entries if entry.index == number)


def _member(patient: Patient, entry: HashEntry, member: str) -> int:
    assert entry.index is not None
    place = variable(patient, "page_address_maps") + entry.index * patient.gdb(
        "sizeof(struct page_address_map)"
    )
    return place + patient.gdb.offset("struct page_address_map", member)


def _head(patient: Patient, bucket: int) -> int:
    """Address of a bucket's ``struct list_head``."""
    place = variable(patient, "page_address_htable") + bucket * patient.gdb(
        "sizeof(struct page_address_slot)"
    )
    return place + patient.gdb.offset("struct page_address_slot", "lh")


def _used(patient: Patient) -> int:
    return slot(patient, lambda count: count >= 2)


def entry_names_another_page(patient: Patient) -> str:
    entry = _entry(patient, _used(patient))
    patient.write(_member(patient, entry, PAGE), entry.page + patient.gdb("sizeof(struct page)"))
    return f"slot {entry.index}"


def slot_leads_to_another_page(patient: Patient) -> str:
    """Another free highmem page: all that is wrong is that the hash says otherwise."""
    number = _used(patient)
    taken = set(patient.healthy.pkmap_pfns.tolist())
    pfn = int(patient.healthy.pkmap_pfns[number])
    other = next(each for each in range(pfn + 1, pfn + 4096) if each not in taken)
    place, size = entry_of(patient, number), patient.healthy.entry_size
    patient.write(place, patient.read(place, size) + (other - pfn) * PAGE_SIZE, size)
    return f"slot {number}"


def entry_names_another_slot(patient: Patient) -> str:
    entry = _entry(patient, _used(patient))
    patient.write(_member(patient, entry, VIRTUAL), entry.virtual + PAGE_SIZE)
    return f"page_address_maps[{entry.index}]"


def entry_names_no_slot(patient: Patient) -> str:
    entry = _entry(patient, _used(patient))
    patient.write(_member(patient, entry, VIRTUAL), 0xC000_0000)
    return f"page_address_maps[{entry.index}]"


def list_bent(patient: Patient) -> str:
    """A bucket's head forgets its last entry."""
    bucket = next(each for each in patient.healthy.pkmap.buckets if each.entries)
    head = _head(patient, bucket.index)
    patient.write(head + 4, head)
    return f"page_address_htable[{bucket.index}]"


def list_cut(patient: Patient) -> str:
    """An entry's next is lost, and with it the rest of the bucket."""
    bucket = next(each for each in patient.healthy.pkmap.buckets if len(each.entries) >= 2)
    patient.write(_member(patient, bucket.entries[0], LIST), 0)
    return f"page_address_htable[{bucket.index}]"


def entry_in_wrong_bucket(patient: Patient) -> str:
    """The first entry of a bucket is moved to the next one as list_move would: page_address() does not look there."""
    full = next(each for each in patient.healthy.pkmap.buckets if each.entries)
    other = patient.healthy.pkmap.buckets[(full.index + 1) % len(patient.healthy.pkmap.buckets)]
    entry, target = full.entries[0], _head(patient, other.index)
    node = _member(patient, entry, LIST)
    patient.write(entry.prev, entry.next)
    patient.write(entry.next + 4, entry.prev)
    first = patient.read(target)
    for address, value in ((target, node), (node, first), (node + 4, target), (first + 4, node)):
        patient.write(address, value)
    return f"page_address_maps[{entry.index}]"


def two_entries_one_page(patient: Patient) -> str:
    first, second = patient.healthy.hash_entries[:2]
    patient.write(_member(patient, second, PAGE), first.page)
    return f"slot {second.index}"


BREAKS = (
    Break("pkmap.slot-hashed", entry_names_another_page),
    Break("pkmap.slot-hashed", slot_leads_to_another_page),
    Break("pkmap.hash-entry-index", entry_names_another_slot),
    Break("pkmap.hash-entry-index", entry_names_no_slot),
    Break("pkmap.hash-lists", list_bent),
    Break("pkmap.hash-lists", list_cut),
    Break("pkmap.hash-bucket", entry_in_wrong_bucket),
    Break("pkmap.slot-hashed", two_entries_one_page),
)
