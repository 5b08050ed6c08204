"""What is read out of SPU's log."""

from benchmarks.peer import sent

LOG = """\
2026-11-26 13:34:37.785 [info] [api.cc:printProfilingData:223] - pphlo.less, executed 20 times, send bytes 117360
2026-11-26 13:34:37.785 [info] [api.cc:printProfilingData:233] Link details: total send bytes 562688, recv bytes 494584, \
send actions 1937, recv actions 1870
"""


def test_bytes_and_sends_of_the_first_run() -> None:
    assert sent(LOG + LOG.replace("562688", "9")) == {"bytes": 562688, "sends": 1937}
    assert sent("no profile") == {}
