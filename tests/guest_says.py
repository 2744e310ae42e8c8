"""What a guest tells of itself, read into numbers: the text files and boot messages that tests compare with."""

from __future__ import annotations

import re

from kvmtools.records import E820Entry

E820_LINE = re.compile(r"BIOS-e820: \[mem 0x([0-9a-f]{16})-0x([0-9a-f]{16})\] +(\w+)")
# Up to 6.x "usable" and "reserved"; in 7.2 "System RAM" and "device reserved".
E820_TYPES = {"usable": 1, "System": 1, "reserved": 2, "device": 2, "ACPI": 3}


def firmware_map(boot_log: str) -> tuple[E820Entry, ...]:
    """The memory map that the firmware handed over, as the kernel printed it."""
    return tuple(
        E820Entry(int(first, 16), int(last, 16) + 1 - int(first, 16), E820_TYPES[kind])
        for first, last, kind in E820_LINE.findall(boot_log)
    )


def zoneinfo(text: str, node: int = 0) -> dict[str, dict[str, list[int]]]:
    """Numbers of a node by zone and word; a word that comes once per CPU has several."""
    zones: dict[str, dict[str, list[int]]] = {}
    _, *parts = re.split(r"^Node (\d+), zone +", text, flags=re.MULTILINE)
    for number, part in zip(parts[::2], parts[1::2], strict=True):
        if int(number) != node:
            continue
        name, _, body = part.partition("\n")
        numbers: dict[str, list[int]] = {}
        for word, rest in re.findall(r"^ +([a-z_]+(?: free)?):? +(\(?[-\d, ]+\)?)$", body, re.MULTILINE):
            numbers.setdefault(word, []).extend(int(number) for number in re.findall(r"-?\d+", rest))
        zones[name.upper()] = numbers
    return zones


def leaves_ram_above_4_gib(boot_log: str) -> bool:
    """A kernel without HIGHMEM64G (since 7.2 any) uses no such RAM, and says so where there is some."""
    return "Warning: only 4GB will be used" in boot_log
