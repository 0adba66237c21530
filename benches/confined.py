#!/usr/bin/env python3
"""Runs a program as slomod.service confines it, where there is no systemd: ./confined.py [--no-jit] PROGRAM ARGUMENT...

Another user (nobody), no capabilities, no new privileges, no network. With --no-jit also what MemoryDenyWriteExecute=yes
does: no memory that is writable and executable, none that becomes executable. Needs root. The filters of system calls and
devices, and the read-only system, are not imitated.
"""

import ctypes
import mmap
import os
import platform
import struct
import sys

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 24, 38, 22, 2
CLONE_NEWNET, NOBODY = 0x40000000, 65534
# mmap, mprotect, pkey_mprotect
CALLS = {"x86_64": (9, 10, 329), "aarch64": (222, 226, 288)}
# Of Linux's include/uapi/linux/bpf_common.h and seccomp.h.
LOAD, AND, IF_EQUAL, IF_ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050001
NUMBER, PROTECTION = 0, 32  # offsets in struct seccomp_data: the call, its third argument

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def must(what, result):
    if result != 0:
        sys.exit(f"confined: {what}: {os.strerror(ctypes.get_errno())}")


def forbid_new_code():
    new, change, change_by_key = CALLS[platform.machine()]
    program = [
        (LOAD, 0, 0, NUMBER), (IF_EQUAL, 3, 0, new), (IF_EQUAL, 5, 0, change), (IF_EQUAL, 4, 0, change_by_key),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, PROTECTION), (AND, 0, 0, mmap.PROT_WRITE | mmap.PROT_EXEC),
        (IF_EQUAL, 2, 3, mmap.PROT_WRITE | mmap.PROT_EXEC),
        (LOAD, 0, 0, PROTECTION), (IF_ANY_BIT, 0, 1, mmap.PROT_EXEC),
        (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]

    filter_ = Program(len(program), ctypes.addressof(code))
    must("seccomp", libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(filter_), 0, 0))
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return
    sys.exit("confined: the filter lets writable code through")


def main():
    arguments = sys.argv[1:]
    no_jit = arguments[:1] == ["--no-jit"]
    program = arguments[no_jit:]
    if not program:
        sys.exit(__doc__)
    # Some machines do not allow it; then the network stays.
    if libc.unshare(CLONE_NEWNET) != 0:
        print("confined: with the network, which cannot be taken away here", file=sys.stderr)
    last = int(open("/proc/sys/kernel/cap_last_cap").read())
    for capability in range(last + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    must("no new privileges", libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if no_jit:
        forbid_new_code()
    os.execv(program[0], program)


main()
