"""`python -m release`: check whether this commit can be released, and write what goes out into dist/.

Each check is one line: its mark, its time, what it is and what was found. The exit status is 1 when one has failed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from harness.paths import ROOT
from release.checks import CHECKS, Failed, Skipped, release


def main() -> int:
    """Check the commit that is checked out."""
    with release(ROOT) as wanted:
        print(f"vae-service {wanted.version}, commit {wanted.commit[:12]}", flush=True)
        return report({name: partial(check, wanted) for name, check in CHECKS.items()})


def report(checks: Mapping[str, Callable[[], str]]) -> int:
    """Run every check, whatever has failed before, and print what it found. Gives the exit status."""
    marks = []
    for name, check in checks.items():
        began = time.perf_counter()
        try:
            mark, said = "ok", check()
        except Skipped as reason:
            mark, said = "skip", str(reason)
        except Failed as reason:
            mark, said = "FAIL", str(reason)
        except Exception as error:  # such as of a check that needs what an earlier one could not make
            mark, said = "FAIL", f"{type(error).__name__}: {error}"
        marks.append(mark)
        print(f"{mark:<4} {time.perf_counter() - began:6.1f} s  {name}: {said}", flush=True)
    counts = ", ".join(
        f"{marks.count(mark)} {word}" for mark, word in (("ok", "passed"), ("FAIL", "failed"), ("skip", "skipped"))
    )
    print(f"It {'cannot' if 'FAIL' in marks else 'can'} be released: {counts}.")
    return 1 if "FAIL" in marks else 0


if __name__ == "__main__":
    sys.exit(main())
