"""Runs a program under the system call filter of a systemd unit, as the unit would.

Usage: under_filter.py UNIT PROGRAM [ARGUMENT…]

The groups (@system-service, …) are systemd's own, as `systemd-analyze syscall-filter` lists them; libseccomp compiles them.
"""

import errno
import os
import re
import subprocess
import sys

try:
    import seccomp
except ImportError:
    sys.exit("python3-seccomp is missing: apt-get install python3-seccomp (./test does)")


def expand(name):
    """The calls of a group, or the call itself."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, stdout=subprocess.PIPE, text=True).stdout
    calls = set()
    for line in listed.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            calls |= expand(word)
    return calls


def allowed(unit):
    """What the unit's lines allow, read in order as systemd does."""
    calls = expand("@default")
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.M):
        for name in line.removeprefix("~").split():
            if line.startswith("~"):
                calls -= expand(name)
            else:
                calls |= expand(name)
    return calls


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        calls = allowed(file.read())
    if not {"read", "execve"} <= calls or "ptrace" in calls or len(calls) < 200:
        sys.exit(f"the unit's filter was not understood: {sorted(calls)}")
    # Also sets no_new_privs.
    seccomp_filter = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in sorted(calls):
        try:
            seccomp_filter.add_rule(seccomp.ALLOW, name)
        except (RuntimeError, ValueError, OSError):
            pass  # Not a call of this machine.
    seccomp_filter.load()
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
