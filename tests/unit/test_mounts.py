# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from tracer.mounts import Mount, mounts_of


def test_mounts_of_a_file_system() -> None:
    mounts = (
        "tracefs /sys/kernel/tracing tracefs rw,nosuid 0 0\n\nx y\n"
        "resctrl /a\\040b resctrl rw 0 0\ntracefs /t tmpfs rw 0 0\n"
    )
    assert mounts_of("tracefs", mounts) == [Mount("/sys/kernel/tracing", "rw,nosuid")]
    assert mounts_of("resctrl", mounts) == [Mount("/a b", "rw")]
    assert mounts_of("nfs", mounts) == []


@given(st.text())
def test_any_text_is_no_error(text: str) -> None:
    assert mounts_of("tracefs", f"{text}\nx /t tracefs rw 0 0")[-1] == Mount("/t", "rw")
