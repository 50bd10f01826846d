# SPDX-License-Identifier: Apache-2.0
"""`fairlead podman setup`: podman's containers onto the overlay."""

from __future__ import annotations

import click


@click.group()
def podman() -> None:
    """Podman on the overlay."""


@podman.command()
@click.option("--name", default="flannel", show_default=True, help="The network's name.")
@click.option("--way", type=click.Choice(["auto", "netavark", "bridge", "cni"]), default="auto", show_default=True)  # fmt: skip
@click.option("--subnet-file", default="/run/flannel/subnet.env", show_default=True)
@click.option("--dry-run", is_flag=True, help="Show what would be written and run.")
def setup(name: str, way: str, subnet_file: str, dry_run: bool) -> None:
    """Make a podman network of flanneld's subnet: `podman run --network flannel …`."""
    from flannelpy.nouns import podman_setup  # netlink and more: not for `fairlead --help`

    podman_setup.setup(name, way, subnet_file, dry_run=dry_run)
