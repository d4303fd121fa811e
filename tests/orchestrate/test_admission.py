"""Who starts and who makes room, by the numbers alone."""

from __future__ import annotations

import random

import pytest

from mae_dist.orchestrate.admission import Claim, Decision, decide, growth_limits

GPU_NODE = {"CPU": 8.0, "GPU": 4.0}


def claim(name: str, *parts: dict[str, float], **options) -> Claim:
    return Claim(name=name, parts=parts, **options)


def workers(name: str, number: int, **options) -> Claim:
    """A training of so many workers with a GPU each, and a decode task."""
    return claim(name, *[{"CPU": 1.0, "GPU": 1.0}] * number, {"CPU": 1.0}, **options)


def started(waiting: list[Claim], running: list[Claim], nodes: list[dict[str, float]]) -> tuple[str, ...]:
    return decide(waiting, running, nodes, most=100).start


def test_everything_that_fits_starts_in_the_order_given():
    waiting = [workers("a", 2), workers("b", 2), workers("c", 1)]
    assert started(waiting, [], [GPU_NODE]) == ("a", "b")


def test_two_steps_that_each_want_more_than_half_run_one_after_the_other():
    nodes = [GPU_NODE, GPU_NODE]
    a, b = workers("a", 5), workers("b", 5)
    assert started([a, b], [], nodes) == ("a",)
    assert started([b], [a], nodes) == ()
    assert started([b], [], nodes) == ("b",)


def test_a_part_has_to_fit_on_one_node_even_where_the_cluster_has_as_much_in_all():
    nodes = [{"CPU": 3.0}, {"CPU": 3.0}]
    small = claim("small", {"CPU": 1.0})
    assert started([claim("whole", {"CPU": 4.0}), small], [], nodes) == ("small",)
    assert started([claim("parts", {"CPU": 2.0}, {"CPU": 2.0}), small], [], nodes) == ("parts", "small")


def test_a_step_that_fits_nowhere_starts_where_nothing_else_runs():
    """Nodes may come, and it is for the step to say what is missing."""
    large = workers("large", 9)
    assert started([large], [], [GPU_NODE]) == ("large",)
    assert started([workers("small", 1)], [large], [GPU_NODE]) == ()


def test_of_steps_that_do_not_fit_together_the_more_important_one_starts():
    waiting = [workers("probe", 4, priority=0), workers("main", 4, priority=10)]
    assert started(waiting, [], [GPU_NODE]) == ("main",)


def test_a_less_important_step_never_takes_what_a_waiting_one_could_use():
    """The probe would fit beside `running`, but `main` needs what is left and more."""
    waiting = [workers("probe", 1, priority=0), workers("main", 4, priority=10)]
    assert started(waiting, [workers("running", 2, priority=10)], [GPU_NODE]) == ()


def test_a_smaller_step_of_the_same_priority_passes_one_that_does_not_fit_yet():
    waiting = [workers("large", 4), workers("small", 2)]
    assert started(waiting, [workers("running", 2)], [GPU_NODE]) == ("small",)


def test_what_a_more_important_step_may_grow_into_is_not_spare():
    growing = workers("pretrain", 1, growth=({"CPU": 1.0, "GPU": 1.0},) * 3, priority=20)
    probe, peer = workers("probe", 1, priority=0), workers("peer", 1, priority=20)
    assert started([probe], [growing], [GPU_NODE]) == ()
    assert started([peer], [growing], [GPU_NODE]) == ("peer",)
    assert started([probe], [growing], [GPU_NODE, GPU_NODE]) == ("probe",)


def test_custom_resources_are_counted():
    nodes = [{"CPU": 8.0, "decode": 2.0}, {"CPU": 8.0}]
    waiting = [claim(name, {"CPU": 1.0, "decode": 1.0}) for name in "abc"]
    assert started(waiting, [], nodes) == ("a", "b")


def test_what_needs_no_gpu_stands_where_there_are_none():
    nodes = [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0}]
    held = [claim("decode", {"CPU": 2.0})]
    assert started([claim("train", {"CPU": 2.0, "GPU": 1.0})], held, nodes) == ("train",)


def test_no_more_run_side_by_side_than_allowed():
    waiting = [claim(name, {"CPU": 1.0}) for name in "abc"]
    assert decide(waiting, [], [GPU_NODE], most=2).start == ("a", "b")


def test_shares_of_a_cpu_add_up():
    waiting = [claim(str(number), {"CPU": 0.1}) for number in range(11)]
    assert len(started(waiting, [], [{"CPU": 1.0}])) == 10


def test_spare_steps_make_room_for_one_that_is_more_important_and_no_more_of_them_than_needed():
    probes = [workers(name, 1, priority=0, gives_way=True) for name in ("old", "middle", "new")]
    main = workers("main", 2, priority=10)
    assert decide([main], probes, [GPU_NODE], most=9) == Decision((), ("new",))
    assert decide([main], probes, [GPU_NODE], most=3) == Decision((), ("new",))


def test_nobody_makes_room_in_vain_or_for_an_equal():
    probe = workers("probe", 2, priority=0, gives_way=True)
    main = workers("main", 2, priority=10)
    assert decide([workers("huge", 5, priority=10)], [probe], [GPU_NODE], most=9).stop == ()
    assert decide([workers("other", 4, priority=0)], [probe], [GPU_NODE], most=9).stop == ()
    assert decide([workers("main 2", 3, priority=10)], [main], [GPU_NODE], most=9).stop == ()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_waits_gets_its_turn_and_nodes_are_never_promised_twice(seed):
    rng = random.Random(seed)
    nodes = [{"CPU": float(rng.randint(2, 8)), "GPU": float(rng.randint(0, 4))} for _ in range(4)]
    waiting = [
        claim(
            str(number),
            *[{"CPU": rng.choice([0.5, 1, 2]), "GPU": rng.choice([0.0, 1.0])}] * rng.randint(1, 5),
            priority=rng.choice([0, 10]),
        )
        for number in range(30)
    ]
    running: list[Claim] = []
    for _ in range(1000):
        if not waiting and not running:
            break
        decision = decide(waiting, running, nodes, most=16)
        assert decision.start or running
        running += [claim for claim in waiting if claim.name in decision.start]
        waiting = [claim for claim in waiting if claim.name not in decision.start]
        for resource in ("CPU", "GPU"):
            held = sum(part.get(resource, 0.0) for claim in running for part in claim.parts)
            assert held <= sum(node[resource] for node in nodes) or len(running) == 1
        running.pop(rng.randrange(len(running)))
    assert not waiting


def elastic(name: str, least: int, most: int, **options) -> Claim:
    """A training of workers with a CPU each, which may grow, and a decode task."""
    cpu = {"CPU": 1.0}
    return claim(name, *[cpu] * least, {"CPU": 1.0}, growth=(cpu,) * (most - least), **options)


def test_a_step_that_is_alone_may_grow_as_far_as_the_cluster_ever_will():
    """A limit of today's nodes would keep a cluster from being scaled up."""
    assert growth_limits([elastic("a", 1, 64)], [{"CPU": 4.0}]) == {}


@pytest.mark.parametrize(
    ("others", "limits"),
    [
        pytest.param([claim("b", {"CPU": 3.0})], {"a": 3}, id="one that holds what it holds"),
        pytest.param([elastic("b", 1, 7)], {"a": 2, "b": 2}, id="one of equal rights: turn by turn"),
        pytest.param([elastic("b", 1, 2)], {"a": 3}, id="one that takes less than its share"),
        pytest.param(
            [elastic("b", 1, 7, priority=1)], {"a": 0, "b": 4}, id="a more important one takes all it can"
        ),
        pytest.param(
            [elastic("b", 1, 7, priority=-1)], {"a": 4, "b": 0}, id="a less important one keeps its own"
        ),
        pytest.param([claim("b", {"CPU": 9.0})], {"a": 0}, id="one that waits for nodes takes what comes"),
        pytest.param([claim("b", {"GPU": 1.0})], {}, id="one that holds something else"),
    ],
)
def test_what_a_step_may_grow_into_is_what_the_others_leave(others, limits):
    nodes = [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}]
    assert growth_limits([elastic("a", 1, 7), *others], nodes) == limits


def test_growth_never_takes_what_another_step_holds():
    rng = random.Random(1)
    for _ in range(300):
        nodes = [{"CPU": float(rng.randint(1, 6))} for _ in range(rng.randint(1, 4))]
        held: list[Claim] = []
        for name in "abcd":
            least = rng.randint(1, 3)
            asked = elastic(name, least, least + rng.randint(0, 5), priority=rng.randint(0, 1))
            if decide([asked], held, nodes, most=9).start:
                held.append(asked)
        limits = growth_limits(held, nodes)
        # All parts are single CPUs, so that a step alone would grow until there is none left.
        cpus = sum(node["CPU"] for node in nodes)
        grown = [min(len(its.parts) + limits.get(its.name, len(its.growth)), cpus) for its in held]
        assert sum(grown) <= cpus
