"""A coverage-guided fuzzer on the native server's connections, by atheris: `nox -s fuzz`, or

    python tests/hostile/fuzz.py [SECONDS]

Ends after so many seconds (60), or with what it found, which it leaves in tests/hostile/found: `test_fuzzed.py` replays that from then on.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

import atheris

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

with atheris.instrument_imports(include=["uait.server", "wsproto"]):
    from hostile.fuzzed import check, seeds

LONGEST = 4096


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    directory = Path(
        tempfile.mkdtemp(prefix="uait-fuzz-")
    )  # libFuzzer ends the process, so nothing can be tidied up after it
    for i, data in enumerate(seeds()):
        (directory / f"seed-{i}").write_bytes(data)
    found = TESTS / "hostile" / "found"
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-timeout=30",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={found}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(directory)], check_loudly)
    atheris.Fuzz()


def check_loudly(data: bytes) -> None:
    """libFuzzer prints only the outermost error, which a nursery makes say nothing."""
    try:
        check(data)
    except BaseException:
        traceback.print_exc()
        raise


if __name__ == "__main__":
    main()
