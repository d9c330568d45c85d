# SPDX-License-Identifier: Apache-2.0
"""Which cgroups are meant by what somebody wrote: `--container` of all commands."""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tracer.errors import UsageError
from tracer.naming.cutting import MARK, cut, shown
from tracer.naming.who import Who, name_of, unit_name, workload_of

_SHORTEST_ID: Final = 4
_GLOB: Final = re.compile(rf"[*?\[{MARK}]")
# As `kubectl` shows ids (`containerd://...`), and as the kubelet calls the cgroups of pods.
_BEFORE_ID: Final = re.compile(r"([a-z][a-z-]*://|pod(?=[0-9a-f-]+\Z))")
_HEXADECIMAL: Final = re.compile(rf"[0-9a-f-]{{{_SHORTEST_ID},}}\Z")
_MOUNT: Final = re.compile(r"/sys/fs/cgroup(/unified)?(?=/|\Z)")
_MOST_SUGGESTED: Final = 4
_MOST_COMPARED: Final = 1000
_LONGEST: Final = 100
_SHOWN_WIDTH: Final = 60


class Selector:
    """Takes a cgroup if any of `patterns` means it; without patterns, all.

    A pattern is a name (`tracer.naming.name_of`, `workload_of`) or a part of it between slashes: a container, a pod
    with or without its namespace, a unit; a cgroup's path, which means what is in it too; its id; a container's id or
    a pod's UID, or how one begins, from 4 digits on; or any of these with `*`, `?` and `[...]`, where `*` stands for
    slashes too.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(dict.fromkeys(patterns))
        self._parsed = [_Pattern(pattern) for pattern in self.patterns]

    def among(self, there: Iterable[Who], *, required: bool = True) -> "Selector":
        """The same where these are all: who is called as a pattern says is meant rather than whose id begins so.

        Raises UsageError if a pattern means nobody of them, unless that is not `required`; it says who is there, the
        most alike first.
        """
        named = [(who, names_of(who)) for who in there] if self._parsed else []
        chosen = Selector(())
        chosen.patterns = self.patterns
        for pattern in self._parsed:
            if any(pattern.names(names) for _who, names in named):
                pattern = _Pattern(pattern.text, beginnings=False)
            elif required and not any(pattern.means(who, names) for who, names in named):
                raise UsageError(_nobody(pattern.text, [who for who, _names in named]))
            chosen._parsed.append(pattern)
        return chosen

    def takes(self, who: Who) -> bool:
        """Whether it is meant."""
        if not self._parsed:
            return True
        names = names_of(who)
        return any(pattern.means(who, names) for pattern in self._parsed)


def names_of(who: Who) -> list[str]:
    """All that it can be called; ids last. Its first name is that of `name_of`."""
    names = [name_of(who), workload_of(who)]
    pod, container, namespace = who.pod_name, who.container_name, who.namespace
    if pod:
        names.append(pod)
        if container or who.container_id:
            names.append(f"{pod}/{container or (who.container_id or '')[:12]}")
        if namespace:
            names.append(f"{namespace}/{pod}")
    if who.cgroup_kind == "unit" and not pod:
        names += filter(None, (unit_name(who.cgroup_path), (who.cgroup_path or "").rpartition("/")[2]))
    if who.cgroup_path:
        names += [who.cgroup_path, who.cgroup_path.lstrip("/")]
    return [*dict.fromkeys(filter(None, [*names, container, who.container_id, who.pod_uid, _number(who)]))]


class _Pattern:
    """One of a selector's; `beginnings` of ids may be left out."""

    def __init__(self, text: str, *, beginnings: bool = True) -> None:
        self.text = text
        self._path = _MOUNT.sub("", text, count=1).rstrip("/") or (text and "/")
        is_glob = _GLOB.search(text) is not None
        glob = fnmatch.translate(self._path.replace(MARK, "*")) if is_glob else None
        self._glob = None if glob is None else re.compile(glob)
        id_ = _BEFORE_ID.sub("", text.lower().replace("_", "-"), count=1)
        digits = id_.replace("-", "") if _HEXADECIMAL.match(id_) else ""
        self._digits = digits if beginnings and len(digits) >= _SHORTEST_ID else None

    def names(self, names: Sequence[str]) -> bool:
        """Whether one of these is what it says."""
        return self.text in names or self._path in names or any(self.text == shown(name) for name in names)

    def means(self, who: Who, names: Sequence[str]) -> bool:
        """Whether it means this one, which is called so."""
        if self.names(names):
            return True
        if self._path not in ("", "/") and (who.cgroup_path or "").startswith(f"{self._path}/"):
            return True
        if self._digits is not None and any(
            id_ is not None and id_.replace("-", "").startswith(self._digits) for id_ in (who.container_id, who.pod_uid)
        ):
            return True
        return self._glob is not None and any(
            self._glob.match(name) is not None for name in (*names, *map(shown, names))
        )


def _number(who: Who) -> str | None:
    return None if who.cgroup_id is None else str(who.cgroup_id)


def _nobody(pattern: str, there: Sequence[Who]) -> str:
    """That nobody is called so, who is alike, and how many more there are."""
    by_name: dict[str, Iterator[str]] = {}
    for who in there:
        by_name.setdefault(name_of(who), iter(names_of(who)))
    by_name.pop("idle", None)
    text = f"no container is called {shown(pattern[:_LONGEST])!r}"
    if not by_name:
        return f"{text}; there is none"
    wanted = pattern[:_LONGEST].lower()
    ranked = sorted(list(by_name)[:_MOST_COMPARED], key=lambda name: (-_likeness(wanted, by_name[name]), name))
    chosen = ranked[:_MOST_SUGGESTED]
    more = len(by_name) - len(chosen)
    return f"{text}; there {'are' if len(by_name) > 1 else 'is'} " + ", ".join(
        [cut(name, _SHOWN_WIDTH) for name in chosen] + ([f"and {more} more"] if more else [])
    )


def _likeness(wanted: str, names: Iterable[str]) -> float:
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    best = 0.0
    for name in names:
        matcher.set_seq1(name[:_LONGEST].lower())
        best = max(best, matcher.ratio()) if matcher.quick_ratio() > best else best
    return best
