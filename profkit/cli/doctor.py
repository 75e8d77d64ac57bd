"""`profkit doctor`."""

import click

_MARKS = {"works": "ok", "repaired": "repaired", "absent": "absent"}


@click.command()
def doctor() -> None:
    """Say what works on this machine, and what to do where something does not.

    Example: profkit doctor
    """
    from ..workloads.capabilities import capabilities

    found = capabilities()
    width = max(len(each.name) for each in found)
    for each in found:
        click.echo(f"{_MARKS[each.state]:<8}  {each.name:<{width}}  {each.detail}")
        if each.advice:
            click.echo(f"{'':<8}  {'':<{width}}  to do: {each.advice}")
    absent = sum(each.state == "absent" for each in found)
    click.echo(f"{len(found) - absent} of {len(found)} work; what is absent becomes a stated gap")
