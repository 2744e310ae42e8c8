"""``kvm vtop``, ``kvm check``, ...: kvmtools' own commands, on the guest that this gdb is connected to."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import gdb

from . import stub
from .companion import Companion
from .expressions import with_numbers

THREAD = "--thread"
EXIT_CODE = "kvm_exit"


class Answer(NamedTuple):
    """One of kvmtools' commands.

    :ivar name: as kvmtools calls it
    :ivar takes_addresses: gdb's expressions are evaluated in its words
    :ivar needs_one: it is nothing without an argument
    """

    name: str
    usage: str
    summary: str
    takes_addresses: bool = False
    needs_one: bool = False


_ADDRESSES = f"""\
An ADDRESS is one of kvmtools' (c1000000, init_task+8), a local variable, or any other expression of gdb's that has one
of $*&()[]> in it, such as $esp or &file->f_pos; in quotes, if it has blanks.
{THREAD} takes the page table that the vCPU of the selected thread uses, not the kernel's own."""

COMMANDS = {
    "vtop": Answer("vtop", "ADDRESS...", "Translate virtual addresses: every level of the page tables.", True, True),
    "walk": Answer("walk", "[--raw] [--from ADDRESS] [--to ADDRESS]", "List what a page table maps.", True),
    "page": Answer(
        "memmap", "[PFN | phys:ADDRESS | STRUCT-PAGE]...", "Show struct pages, or count all by state.", True
    ),
    "pkmap": Answer("pkmap", "", "Draw the slots of pkmap, and list those in use."),
    "zones": Answer("zones", "", "Show the zones: spans, watermarks, free lists."),
    "check": Answer("check", "[--only RULE] [--skip RULE]", "Compare what the kernel has with what it ought to have."),
    "layout": Answer("layout", "", "Show the kernel's address space, the model beside the guest."),
    "regs": Answer("regs", "", "Show the registers that decide how each vCPU sees memory."),
}  # fmt: skip
"""By the name that they have in gdb."""


def define_commands(companion: Companion) -> None:
    KvmCommand()
    for name in COMMANDS:
        AnswerCommand(companion, name)
    SymbolsCommand(companion)


class KvmCommand(gdb.Command):
    """Memory management of the i386 Linux kernel in this guest, by kvmtools.
    The guest stands still meanwhile, as gdb holds it.  Afterwards $kvm_exit is what kvmtools would exit with: 0 for
    yes, 1 for no (a discrepancy; an address that is not mapped), more for an error.
    In expressions: $kvm_pte(ADDRESS), $kvm_page(PFN)."""

    def __init__(self) -> None:
        super().__init__("kvm", gdb.COMMAND_DATA, prefix=True)

    @stub.in_one_line
    def invoke(self, argument: str, from_tty: bool) -> None:
        if argument:
            raise gdb.GdbError(f'Undefined kvm command: "{argument.split()[0]}".  Try "help kvm".')
        gdb.execute("help kvm", from_tty)


class AnswerCommand(gdb.Command):
    """See :data:`COMMANDS`; gdb shows this text as help, so each has its own."""

    def __init__(self, companion: Companion, name: str) -> None:
        self._companion, self._name, self._answer = companion, name, COMMANDS[name]
        self.__doc__ = _help(name, self._answer)
        super().__init__(f"kvm {name}", gdb.COMMAND_DATA)

    @stub.in_one_line
    def invoke(self, argument: str, _from_tty: bool) -> None:
        words = gdb.string_to_argv(argument)
        if self._answer.needs_one and not words:
            raise gdb.GdbError(f"Argument required: kvm {self._name} {self._answer.usage}")
        if self._answer.takes_addresses:
            words = with_numbers(_with_thread(words))
        show(self._companion.ask("command", words=[self._answer.name, *words]))

    def complete(self, text: str, word: str | None) -> list[str] | int:
        *before, last = text.split() if text and not text[-1].isspace() else [*text.split(), ""]
        if last.startswith("-") or (before and before[-1].startswith("--")):
            found = self._options(before, last)
            if found:
                # Gdb breaks words where it likes; what it completes is the tail of ours.
                tail = len(last) - len(word or "")
                return [each[tail:] for each in found]
        return gdb.COMPLETE_SYMBOL if self._answer.takes_addresses else gdb.COMPLETE_NONE

    def _options(self, before: list[str], last: str) -> list[str]:
        try:
            answer = self._companion.ask("complete", words=[self._answer.name, *before], incomplete=last)
        except (gdb.error, gdb.GdbError):
            return []
        option, equals, _ = last.rpartition("=")
        found = [f"{option}{equals}{each}" for each in answer.get("value", ())]
        if self._answer.takes_addresses and last and THREAD.startswith(last):
            found.append(THREAD)
        return sorted(found)


class SymbolsCommand(gdb.Command):
    """Load the kernel's symbols where KASLR has put it.
    Usage: kvm symbols [VMLINUX]
    Without VMLINUX it is the symbol file that gdb has.  Say it again after a reboot."""

    def __init__(self, companion: Companion) -> None:
        super().__init__("kvm symbols", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)
        self._companion = companion

    @stub.in_one_line
    def invoke(self, argument: str, _from_tty: bool) -> None:
        words = gdb.string_to_argv(argument)
        if len(words) > 1:
            raise gdb.GdbError("kvm symbols takes one file")
        named = {"symbols": os.path.abspath(os.path.expanduser(words[0]))} if words else {}
        answer = self._companion.ask("slide", **named)
        if answer["code"]:
            raise refused(answer)
        slide, path = answer["value"]
        load_symbols(path, slide)
        gdb.write(f"{path}: slide {slide:#x}\n")


def load_symbols(path: str, slide: int) -> None:
    """The symbols of a file, moved.

    :raises gdb.error: if gdb cannot read it
    """
    escaped = path.replace("\\", r"\\").replace('"', r"\"")
    gdb.execute(f'symbol-file -o {slide:#x} "{escaped}"', from_tty=False, to_string=True)


def show(answer: dict[str, Any]) -> None:
    """Print what kvmtools printed.

    :raises gdb.GdbError: what it complained of, if it could not answer
    """
    gdb.set_convenience_variable(EXIT_CODE, answer["code"])
    gdb.write(answer["out"])
    if answer["code"] > 1 and answer["err"]:
        raise refused(answer)
    gdb.write(answer["err"], gdb.STDERR)


def refused(answer: dict[str, Any]) -> gdb.GdbError:
    """What kvmtools complained of, for gdb to say."""
    return gdb.GdbError(
        answer["err"].rstrip("\n").rpartition("\n")[2].removeprefix("kvmtools: ").removeprefix("Error: ")
    )


def _with_thread(words: list[str]) -> list[str]:
    """``--thread`` is ``--cpu`` and the number of the vCPU whose thread is selected."""
    return [new for word in words for new in (("--cpu", str(stub.cpu())) if word == THREAD else (word,))]


def _help(name: str, answer: Answer) -> str:
    usage = f"kvm {name} [OPTION]... {answer.usage}".rstrip()
    told = (
        f"{answer.summary}\nUsage: {usage}\n`kvm {name} --help` tells the options of kvmtools {answer.name}."
    )
    return f"{told}\n{_ADDRESSES}" if answer.takes_addresses else told
