from varve.gateway.circuit_breaker import CircuitBreaker


class Clock:
    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


def test_it_opens_at_a_failure_and_closes_at_a_success():
    breaker = CircuitBreaker(Clock())
    assert breaker.may_try()

    breaker.failed()
    assert breaker.is_open

    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.may_try()


def test_pauses_are_random_below_a_bound_that_doubles_up_to_the_longest():
    bounds = []

    def uniform(low, high):
        bounds.append((low, high))
        return high

    breaker = CircuitBreaker(Clock(), first_pause_s=1.0, longest_pause_s=10.0, uniform=uniform)

    pauses = [breaker.failed() for _ in range(6)]

    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert {low for low, _ in bounds} == {0.0}


def test_while_it_is_open_one_attempt_is_let_through_after_each_pause():
    clock = Clock()
    breaker = CircuitBreaker(clock, first_pause_s=1.0, uniform=lambda _, high: high)
    breaker.failed()
    assert not breaker.may_try()

    clock.at = 1.0

    assert breaker.may_try()
    assert not breaker.may_try()
