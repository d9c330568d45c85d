# SPDX-License-Identifier: Apache-2.0
"""The images that containers of the tests run from: one layer with busybox, in the format of `docker save`."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

IMAGE = "localhost/busybox:1"
PAUSE_IMAGE = "localhost/pause:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image_archive(busybox: Path, archive: Path) -> None:
    """Writes the tar with both images; they share the layer, and differ in what a container runs by default."""
    layer = _layer(busybox)
    commands = {IMAGE: ["/bin/sh"], PAUSE_IMAGE: ["/bin/sleep", "infinity"]}
    manifest = []
    with tarfile.open(archive, "w") as tar:
        _add(tar, "layer.tar", layer)
        for number, (name, command) in enumerate(commands.items()):
            config = {
                "architecture": _ARCHITECTURES[platform.machine()],
                "os": "linux",
                "config": {"Cmd": command, "Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            }
            _add(tar, f"{number}.json", json.dumps(config).encode())
            manifest.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _layer(busybox: Path) -> bytes:
    """A root file system with busybox and its applets in /bin."""
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type = tarfile.SYMTYPE
                link.linkname = "busybox"
                tar.addfile(link)
    return layer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    tar.addfile(entry, io.BytesIO(content))
