# SPDX-License-Identifier: Apache-2.0
"""The options by which all commands let one say whom they are about."""

from typing import Annotated

import typer

Containers = Annotated[
    list[str] | None,
    typer.Option(
        "--container",
        metavar="NAME",
        help="Whom it is about; may be repeated. A name (shop/web-1/app) or a part of it, an id or UID or how it "
        "begins, a cgroup's path, or any of these with * and ?.",
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="Whom it is about: all of this Kubernetes namespace.")
]
