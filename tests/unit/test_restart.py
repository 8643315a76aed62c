from __future__ import annotations

from ray_ext.supervise.restart import RestartPolicy


def test_the_first_loss_restarts_at_once_and_a_crash_loop_doubles_up_to_the_most() -> None:
    policy = RestartPolicy(first_s=0.25, most_s=3.0, window_s=100.0)
    assert [policy.delay_after_loss(float(now)) for now in range(7)] == [0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert policy.recent_losses == 7


def test_a_loss_after_a_quiet_window_restarts_at_once_again() -> None:
    policy = RestartPolicy(window_s=10.0)
    policy.delay_after_loss(0.0)
    assert policy.delay_after_loss(10.0) > 0
    assert policy.delay_after_loss(20.1) == 0.0
    assert policy.recent_losses == 1


def test_thousands_of_losses_in_one_window_still_have_a_delay() -> None:
    policy = RestartPolicy()
    assert [policy.delay_after_loss(0.0) for _ in range(3000)][-1] == 30.0
