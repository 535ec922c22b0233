"""`forebay check PATH...`: scenarios are executable claims; run them and say which hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.options import Jobs, Json, Seed, jobs_of

if TYPE_CHECKING:
    from forebay.checking import FileCheck


def check(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, or folders that are searched.", show_default=False)
    ],
    junit: Annotated[Path | None, typer.Option(help="JUnit XML file to write.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 also if a claim is undecided or lax.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Show bounds that would hold as a diff, and ask whether to write them.")
    ] = False,
    jobs: Jobs = None,
    as_json: Json = False,
    seed: Seed = None,
) -> None:
    """Run scenarios as tests.

    Runs every scenario that has an `expect:`, judged by the confidence interval, and validates the other files, all
    side by side. Where an interval straddles a bound the replications are doubled, up to 160. `--strict` also
    wants each scenario to have a contrast, and bounds within 25 % of what is simulated or with a reason.
    """
    from forebay.checking import check_files, exit_code, files_of, suite_of
    from forebay.console import bar
    from serve.errors import SpecError
    from serve.files import check_writable, save_text
    from sim import workers
    from sim.junit import to_xml

    files = list(files_of(paths))
    if junit is not None:
        check_writable(junit, *(file for file, _ in files))
    with workers.on(jobs_of(jobs)), bar("checking") as progress:
        checks = [each for each in check_files(files, seed, progress) if each.outcome != "skipped"]
    if not checks:
        raise SpecError.of(", ".join(str(path) for path in paths), "", "holds no file to check")
    if junit is not None:
        save_text(junit, to_xml([suite_of(each, strict) for each in checks]))
    code = exit_code(checks, strict)
    _report(checks, as_json, code, strict)
    if update:
        _update(checks)
    raise typer.Exit(code)


def _report(checks: list[FileCheck], as_json: bool, code: int, strict: bool) -> None:
    from forebay.checking import check_json
    from forebay.console import emit, note, show
    from forebay.tables import claims_table

    for each in checks:
        for line in each.errors:
            note(line)
        for line in each.warnings:
            note(f"warning: {line}")
        for line in each.lax if strict else ():
            note(f"lax: {line}")
        if each.outcome == "undecided":
            note(f"warning: {each.file}: undecided after {each.replications} replications")
    if as_json:
        emit({"exit_code": code, "files": [check_json(each) for each in checks]})
        return
    judged = [(each.file, judgement) for each in checks for judgement in each.judgements]
    if judged:
        show(claims_table(judged))
    outcomes = [each.outcome for each in checks]
    show(", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes)))


def _update(checks: list[FileCheck]) -> None:
    """Show what would hold; write only what somebody at a terminal agrees to."""
    from forebay.console import note
    from forebay.updating import Proposal, proposal_of
    from serve.files import save_text

    proposals: list[Proposal] = [found for each in checks if (found := proposal_of(each)) is not None]
    for each in proposals:
        typer.echo(each.diff, err=True)
        for line in each.left:
            note(f"left as it is: {line}")
        if each.diff and sys.stdin.isatty() and typer.confirm(f"Write {each.path}?", err=True):
            save_text(each.path, each.text)
    if not proposals:
        note("every bound is near what is simulated: nothing to update")
    elif not sys.stdin.isatty():
        note("nothing was written: --update asks at a terminal before it does")
