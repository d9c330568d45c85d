# SPDX-License-Identifier: Apache-2.0
"""Root disks of guests: Debian trixie with the project's own set-up run in it."""

import shutil
from pathlib import Path

from virtual_machine.debian import debian_tree
from virtual_machine.host import PROJECT, HostError, content_key, made_once, native_architecture, run

_CONTAINERS = ["containerd", "crun", "dbus-user-session", "docker-cli", "docker.io", "podman", "runc", "uidmap"]
SYSTEMS = {"plain": [], "systemd": ["dbus", "jq", "libpam-systemd", "systemd-sysv", *_CONTAINERS]}
"""The systems that `--system` takes, and the packages that make them."""

_SUITE = "trixie"
# Minor version of glibc 2 that wheels of the foreign processor may ask for.
_NEWEST_LIBC = 28
_PYTHON = "3.13"
_PACKAGES = ["busybox-static", "e2fsprogs", "iproute2", "kmod", "make", "procps", "python3", "sudo", "util-linux"]
# In a tree where nothing is set up, also what every Debian has, and what scripts/setup would install.
_UNPACKED_PACKAGES = [
    *_PACKAGES,
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "diffutils", "findutils", "gcc", "grep", "gzip"),
    *("hostname", "libbpf-dev", "libc-bin", "libc6-dev", "login", "mount", "python3-bpfcc", "sed", "tar"),
]
_LOCKS = ["requirements.lock", "requirements-build.lock", "requirements-dev.lock"]
_GUEST_FILES = ["guest-init", "guest-run", "guest-run.service"]
_SET_UP = """
set -e
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
# Where the network asks for certificates and name servers of its own, the machine has them. Copies: setting up packages
# writes to them.
cp /etc/ssl/certs/ca-certificates.crt "$1/tmp/certificates" || touch "$1/tmp/certificates"
export PIP_CERT=/tmp/certificates SSL_CERT_FILE=/tmp/certificates
touch "$1/etc/resolv.conf"
mount --bind -o ro /etc/resolv.conf "$1/etc/resolv.conf"
chroot "$1" /opt/tracer/scripts/setup guest
"""


def root_image(system: str, architecture: str) -> Path:
    """The disk of one of `SYSTEMS` for Debian's `architecture`, to be written to only by way of a snapshot."""
    foreign = architecture != native_architecture()
    if foreign and SYSTEMS[system]:
        raise HostError(f"--system {system} is made only for the machine's own architecture")

    def make(directory: Path) -> None:
        tree = directory / "tree"
        packages = _UNPACKED_PACKAGES if foreign else [*_PACKAGES, *SYSTEMS[system]]
        debian_tree(tree, _SUITE, architecture, packages, extract=foreign)
        project = tree / "opt" / "tracer"
        (project / "scripts").mkdir(parents=True)
        for name in ("pyproject.toml", "README.md", *_LOCKS, "scripts/setup", "scripts/as-root"):
            shutil.copy(PROJECT / name, project / name)
        # What an installation needs of the program, which each guest brings anew.
        for name in ("tracer", "bpf_programs"):
            shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        if foreign:
            _unpack_python_packages(project / ".venv", architecture)
            for name in ("passwd", "group"):
                shutil.copy(tree / f"usr/share/base-passwd/{name}.master", tree / "etc" / name)
        else:
            run("unshare", "--mount", "bash", "-c", _SET_UP, "bash", tree)
        _add_guest_files(tree, bool(SYSTEMS[system]))
        _remove_what_guests_do_without(tree)
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, directory / "root.img", "6G")
        shutil.rmtree(tree)

    here = Path(__file__)
    sources = [here, here.with_name("debian.py"), *(here.with_name(name) for name in _GUEST_FILES)]
    sources += [PROJECT / name for name in ("scripts/setup", *_LOCKS)]
    return made_once(f"vm-root-{system}-{architecture}", content_key(*sources), make) / "root.img"


def _unpack_python_packages(environment: Path, architecture: str) -> None:
    """A virtual environment as scripts/setup makes it, of another processor's wheels."""
    pip = PROJECT / ".venv" / "bin" / "pip"
    if not pip.exists():
        raise HostError("there is no pip for the guest's packages: scripts/setup dev")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    # pip takes each as it is, and none for what an older C library is enough for.
    names = [*(f"manylinux_2_{minor}" for minor in range(_NEWEST_LIBC, 16, -1)), "manylinux2014"]
    platforms = [f"--platform={name}_{machine}" for name in names]
    packages = environment / "lib" / f"python{_PYTHON}" / "site-packages"
    packages.mkdir(parents=True)
    run(
        pip, "install", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile", f"--target={packages}",
        f"--python-version={_PYTHON}", "--implementation=cp", *platforms,
        *(f"--requirement={PROJECT / name}" for name in _LOCKS),
    )  # fmt: skip
    (environment / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {_PYTHON}\n")
    (packages / "tracer.pth").write_text("/opt/tracer\n")
    programs = environment / "bin"
    programs.mkdir()
    for name in ("python", "python3"):
        (programs / name).symlink_to("/usr/bin/python3")
    for name, module in (("tracer", "tracer.cli.main"), ("pytest", "pytest")):
        program = programs / name
        program.write_text(f"#!/opt/tracer/.venv/bin/python\nfrom {module} import main\nraise SystemExit(main())\n")
        program.chmod(0o755)


def _add_guest_files(tree: Path, systemd: bool) -> None:
    here = Path(__file__).parent
    for name in ("guest-init", "guest-run"):
        shutil.copy(here / name, tree)
    if systemd:
        units = tree / "etc" / "systemd" / "system"
        shutil.copy(here / "guest-run.service", units)
        wants = units / "default.target.wants"
        wants.mkdir(exist_ok=True)
        # The command's output is all that is to be there.
        (units / "serial-getty@hvc0.service").symlink_to("/dev/null")
        (wants / "guest-run.service").symlink_to("../guest-run.service")


def _remove_what_guests_do_without(tree: Path) -> None:
    """Other kernels than the guest's, and what packages are installed from."""
    for name in ("boot", "usr/lib/modules", "usr/src", "var/cache/apt", "var/lib/apt/lists", "root/.cache"):
        shutil.rmtree(tree / name, ignore_errors=True)
    for name in ("boot", "mnt", "proc", "sys", "dev", "run", "tmp", "root", "usr/lib/modules", "usr/src"):
        (tree / name).mkdir(parents=True, exist_ok=True)
