# SPDX-License-Identifier: Apache-2.0
"""Arguments and exit codes of `scripts/vm`."""

import argparse
import signal
import sys
from pathlib import Path

from virtual_machine.host import HostError, end_with_parent, need_root
from virtual_machine.images import SYSTEMS
from virtual_machine.kernels import SUITES
from virtual_machine.machine import Guest, run_guest

_NO_GUEST = 125
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(parent: int) -> int:
    """The command's own exit code; 125 where there was no guest or it did not end; 2 for wrong arguments.

    `parent`: the process that asks for the guest, without which there is to be none.
    """
    # So that a stopped VM still ends its emulator and removes its files.
    for number in _ENDING:
        signal.signal(number, _end_once)
    end_with_parent(signal.SIGTERM, parent)
    parser = _parser()
    arguments = parser.parse_args()
    guest = _guest(parser, arguments)
    try:
        need_root()
        return run_guest(guest, arguments.command, arguments.results)
    except HostError as error:
        print(f"vm: {error}", file=sys.stderr)
        return _NO_GUEST
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _end_once(number: int, _frame: object) -> None:
    """The first signal ends; those that come meanwhile, as from a parent that ends too, are not to disturb that."""
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(_NO_GUEST)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vm",
        description="Runs commands as root in a guest with this checkout and all that it needs, made of Debian's "
        "packages. The guest has no network. Its parts are made once and kept.",
    )
    run = parser.add_subparsers(required=True, metavar="run").add_parser(
        "run",
        help="boot, run a command, bring back what it left in /results, end with its exit code",
        description="Boots a guest, runs COMMAND in /opt/tracer, copies what it left in /results to --results, and "
        f"ends with its exit code ({_NO_GUEST}: there was no guest, or it did not end).",
        usage="vm run [options] -- COMMAND…",
    )
    run.add_argument("--kernel", choices=SUITES, default="6.12", help="Debian's, of that version (6.12)")
    run.add_argument("--arch", choices=["x86_64", "arm64"], default="x86_64", help="the guest's processor (x86_64)")
    run.add_argument("--system", choices=SYSTEMS, default="plain",
                     help="systemd: with systemd, containerd, Docker and podman (plain)")  # fmt: skip
    run.add_argument("--headers", action="store_true", help="with the kernel's headers")
    run.add_argument("--cpus", type=int, help="as many CPUs as --topology says, or 2; 5.10 has one")
    run.add_argument("--topology", metavar="S:D:C:T",
                     help="sockets, dies of each, cores of each, threads of each (x86_64)")  # fmt: skip
    run.add_argument("--numa", type=int, default=0, metavar="N", help="so many NUMA nodes")
    run.add_argument("--count-instructions", action="store_true",
                     help="one CPU with a PMU whose counts are exact (arm64)")  # fmt: skip
    run.add_argument("--memory", type=int, default=3072, metavar="MIB", help="the guest's memory (3072)")
    run.add_argument("--container-image", action="store_true",
                     help="bring the checkout's container image (takes buildah), /guest/tracer.oci.tar")  # fmt: skip
    run.add_argument("--disk", type=Path, metavar="FILE", help="a further disk, with the serial number `disk`")
    run.add_argument("--boot-option", action="append", default=[], metavar="WORD",
                     help="added to the kernel's command line; guest.cgroup=v1 mounts version 1 only")  # fmt: skip
    run.add_argument("--timeout", type=int, default=900, metavar="SECONDS", help="the guest's whole life (900)")
    run.add_argument("--results", type=Path, metavar="DIRECTORY", help="where what the command leaves in /results goes")
    run.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def _guest(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Guest:
    cpus, topology = arguments.cpus, None
    if arguments.topology:
        if arguments.arch != "x86_64":
            parser.error("--topology is for x86_64")
        cpus, topology = _topology(parser, arguments.topology, cpus)
    if arguments.count_instructions:
        if arguments.arch != "arm64" or cpus not in (None, 1):
            parser.error("--count-instructions is for arm64 with one CPU")
        cpus = 1
    if arguments.arch == "arm64" and arguments.kernel != "6.12":
        parser.error("the kernel for arm64 is 6.12")
    if cpus is None:
        cpus = 1 if arguments.kernel == "5.10" else 2
    if cpus < 1 or not 0 <= arguments.numa <= cpus or arguments.memory < 512 or arguments.timeout < 1:
        parser.error("--cpus, --numa, --memory (512 at least) or --timeout is out of range")
    if arguments.disk is not None and not arguments.disk.is_file():
        parser.error(f"--disk {str(arguments.disk)!r} is no file")
    return Guest(
        kernel=arguments.kernel, architecture=arguments.arch, system=arguments.system, headers=arguments.headers,
        cpus=cpus, topology=topology, numa_nodes=arguments.numa, count_instructions=arguments.count_instructions,
        memory_mib=arguments.memory, boot_options=arguments.boot_option, timeout_seconds=arguments.timeout,
        container_image=arguments.container_image, disk=arguments.disk,
    )  # fmt: skip


def _topology(parser: argparse.ArgumentParser, words: str, cpus: int | None) -> tuple[int, str]:
    try:
        sockets, dies, cores, threads = map(int, words.split(":"))
    except ValueError:
        parser.error("--topology is four numbers, such as 2:2:2:2")
    product = sockets * dies * cores * threads
    if product < 1 or cpus not in (None, product):
        parser.error(f"--topology {words} makes {product} CPUs")
    return product, f"sockets={sockets},dies={dies},cores={cores},threads={threads}"
