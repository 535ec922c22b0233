"""A timerfd fires at its instant, never before it."""

import select

from serve import clock


def test_a_timer_is_readable_from_its_instant_on():
    timer = clock.TimerFd()
    due_ns = clock.now_ns() + 3_000_000
    timer.arm(due_ns)
    readable, _, _ = select.select([timer.fd], [], [], 10)
    assert readable == [timer.fd]
    assert clock.now_ns() >= due_ns
    timer.clear()
    assert select.select([timer.fd], [], [], 0)[0] == []
    timer.close()


def test_an_instant_that_has_passed_fires_at_once_and_a_disarmed_one_never():
    timer = clock.TimerFd()
    timer.arm(clock.now_ns() - 5)
    assert select.select([timer.fd], [], [], 10)[0] == [timer.fd]
    timer.arm(clock.now_ns() + 50_000_000_000)
    assert select.select([timer.fd], [], [], 0)[0] == []
    timer.arm(0)
    assert select.select([timer.fd], [], [], 10)[0] == [timer.fd]
    timer.disarm()
    assert select.select([timer.fd], [], [], 0)[0] == []
    timer.close()
