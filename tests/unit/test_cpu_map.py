# SPDX-License-Identifier: Apache-2.0
from typing import Any

import msgspec
import pytest
from test_manifest import example_manifest

from tracer.analysis.cpu_map import CpuMap, cpu_map


def map_of(topology: Any, cpus: int = 8) -> CpuMap:
    return cpu_map([msgspec.structs.replace(example_manifest(), topology=topology)], "node-1", cpus)


def test_cpus_that_share_a_cache_and_those_that_share_a_core() -> None:
    found = map_of(
        {
            "llc_domains": [{"cpus": "0-3", "line_bytes": 128}, {"cpus": "4,5-7", "line_bytes": 128}],
            "cores": [{"cpus": "0,4"}, {"cpus": "1,5"}, {"cpus": "2"}],
        }
    )
    assert found.domain.tolist() == [0] * 4 + [1] * 4
    assert found.sibling.tolist() == [4, 5, -1, -1, 0, 1, -1, -1]
    assert (found.domains, found.line_bytes, found.is_known) == (2, 128, True)


@pytest.mark.parametrize(
    "topology",
    [None, [], {}, {"llc_domains": "0-3"}, {"llc_domains": [7, None]}, {"llc_domains": [], "cores": [{"cpus": "x-"}]}],
)
def test_what_tells_nothing_is_one_cache(topology: Any) -> None:
    found = map_of(topology)
    assert not found.domain.any()
    assert (found.sibling == -1).all()
    assert not found.is_known


def test_cpus_beyond_those_that_ran_are_left_out() -> None:
    assert map_of({"llc_domains": [{"cpus": "0-99999999999"}, {"cpus": "1"}]}, cpus=2).domain.tolist() == [0, 1]
