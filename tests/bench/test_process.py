import subprocess
import sys
import time

import pytest

from selfee_cli.bench.process import run_measured
from selfee_cli.errors import SelfeeError


def run(code):
    return run_measured([sys.executable, "-c", code])


def test_time_peak_and_output_are_the_commands_own():
    ballast = bytearray(b"x" * (300 << 20))  # the system would count it as a child's
    small = run("print('one'); print('two', end='')")
    assert (small.exit_code, small.failure, small.out) == (0, None, "one\ntwo")
    assert small.peak_bytes < 100 << 20
    large = run("import time; kept = b'x' * (150 << 20); time.sleep(0.2)")
    assert large.peak_bytes > 150 << 20
    assert large.seconds > 0.2
    assert len(ballast) > large.peak_bytes


@pytest.mark.parametrize(("code", "failure"), [
    ("import sys; print('hint: x', file=sys.stderr); sys.exit('error: no such thing')",
     "no such thing"),
    ("raise ValueError('bad')", "ValueError: bad"),
    ("import os; os._exit(7)", "exit code 7"),
    ("import os; os.kill(os.getpid(), 9)", "killed by signal 9, as when memory runs out"),
])  # fmt: skip
def test_a_failure_is_one_line(code, failure):
    assert run(code).failure == failure


def test_a_command_that_is_not_there():
    with pytest.raises(SelfeeError, match="could not start /no/such/command"):
        run_measured(["/no/such/command"])


def test_an_interrupt_ends_what_was_started(tmp_path):
    mark = tmp_path / "alive"
    forever = f"import time\nwhile True:\n open({str(mark)!r}, 'a').write('x'); time.sleep(0.02)"
    code = (
        "import signal, sys\n"
        "from selfee_cli.bench.process import run_measured\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"try: run_measured([sys.executable, '-c', {forever!r}])\n"
        "except KeyboardInterrupt: sys.exit(3)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 60
        while not mark.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(2)
        assert process.wait(60) == 3
    size = mark.stat().st_size
    time.sleep(0.3)
    assert mark.stat().st_size == size
