# SPDX-License-Identifier: Apache-2.0
"""The types of what `--json` prints, by command; `docs/schemas/` is made of them. No command imports all of them."""

from typing import Final

import msgspec

from tracer.analysis.comparison.results import Comparison
from tracer.analysis.findings import Report
from tracer.analysis.fleet.results import FleetReport
from tracer.analysis.run_list import RunList
from tracer.cli.doctor import Diagnosis
from tracer.cli.ps import Census
from tracer.cli.recover import Recovery
from tracer.cli.topology_answer import NodeDescription
from tracer.experiment.outcome import Outcome, Plan
from tracer.live.top.rates import NodeRates

ANSWERS: Final[dict[str, tuple[type[msgspec.Struct], ...]]] = {
    "compare": (Comparison,),
    "doctor": (Diagnosis,),
    "fleet-report": (FleetReport,),
    "ps": (Census,),
    "recover": (Recovery,),
    "report": (Report,),
    "runs": (RunList,),
    "top": (NodeRates,),
    "topology": (NodeDescription,),
    "verify": (Outcome, Plan),
}
