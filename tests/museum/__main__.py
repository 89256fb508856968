"""Show that each bug of the museum is noticed, and write docs/museum.md; with names, those bugs alone."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from killing import PACKAGE, ROOT, Verdict, kill, run_tests
from mutants import MUTANTS, Mutant

PAGE = ROOT / "docs" / "museum.md"
AT_ONCE = 2
HEAD = """# The museum of bugs

{count} bugs that VAE code has had, here or elsewhere. Each is made again as a change of a few words in a copy of the
package, and each is noticed: the test that is named fails. These are ordinary tests of the suite, which pass on the
package as it is; a few of them were written when a bug got past the others. `make museum` does all this again, in some
minutes, and writes this page.

"Reported" means a public report of the bug, "met by running" that the code of others was run; no project is named,
since most of these reports are old and many of the bugs are repaired. A bug without such a word is easily made.

| bug | what is wrong, and where it was met | the change | noticed by | seconds |
| --- | --- | --- | --- | ---: |
"""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def code(text: str) -> str:
    """Return a piece of source as code in a cell of a table."""
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`"


def row(verdict: Verdict) -> str:
    mutant = verdict.mutant
    test = mutant.test.replace("::", ": ")
    story = mutant.story.replace("|", "\\|")
    change = f"`{mutant.file}`: {code(mutant.old)} becomes {code(mutant.new)}"
    return f"| {mutant.name} | {story} | {change} | `{test}` | {verdict.seconds:.0f} |\n"


def control(mutants: Sequence[Mutant]) -> bool:
    """Run all tests on the package as it is, where none may fail."""
    status, output = run_tests(PACKAGE.parent, *dict.fromkeys(mutant.test for mutant in mutants))
    passed = status == 0 and f"lowerbound is {PACKAGE / '__init__.py'}" in output
    if not passed:
        say(f"{output}\nthe tests must pass on the package as it is")
    return passed


def main(names: Sequence[str]) -> int:
    mutants = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if not mutants:
        say(f"no bug is called {', '.join(names)}")
    if not mutants or not control(mutants):
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        verdicts = []
        for verdict in pool.map(kill, mutants):
            verdicts.append(verdict)
            say(f"{'killed  ' if verdict.killed else 'SURVIVED'} {verdict.seconds:5.1f} s  {verdict.mutant.name}")
    survivors = [verdict for verdict in verdicts if not verdict.killed]
    for verdict in survivors:
        say(f"\n{verdict.mutant.name}: {verdict.mutant.test}\n{verdict.output[-3000:]}")
    say(f"{len(verdicts) - len(survivors)} of {len(verdicts)} bugs are noticed")
    if not names and not survivors:
        PAGE.write_text(HEAD.format(count=len(verdicts)) + "".join(map(row, verdicts)), encoding="utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
