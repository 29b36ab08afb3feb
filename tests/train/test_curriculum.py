"""The curriculum: which sources are read, and when the next ones join."""

from train.curriculum import Curriculum


def curriculum(**changes: object) -> Curriculum:
    settings: dict = {"levels": [["easy"], ["middle", "odd"], ["hard"]], "advance_at": 0.8, "max_steps": 100}
    weights = {"easy": 1, "middle": 2, "odd": 1, "hard": 3}
    return Curriculum(weights=weights, **(settings | changes))


def test_each_level_adds_its_sources_to_those_before() -> None:
    plan = curriculum()
    assert plan.shares() == {"easy": 1}
    assert plan.observe(10, {"easy": 0.9})
    assert plan.shares() == {"easy": 1, "middle": 2, "odd": 1}
    assert plan.observe(20, {"easy": 0.9, "middle": 0.8, "odd": 0.85})
    assert plan.shares() == {"easy": 1, "middle": 2, "odd": 1, "hard": 3}


def test_without_levels_all_sources_are_read_from_the_start_and_nothing_advances() -> None:
    plan = curriculum(levels=[])
    assert plan.shares() == {"easy": 1, "middle": 2, "odd": 1, "hard": 3}
    assert not plan.observe(1000, dict.fromkeys(plan.shares(), 1.0))


def test_only_the_newest_sources_decide_and_all_of_them_must_be_read() -> None:
    plan = curriculum()
    assert not plan.observe(10, {"easy": 0.79, "middle": 1.0, "odd": 1.0, "hard": 1.0})
    assert plan.observe(20, {"easy": 0.8})
    assert not plan.observe(30, {"easy": 1.0, "middle": 0.9, "odd": 0.7})
    assert plan.observe(40, {"easy": 0.1, "middle": 0.9, "odd": 0.9})


def test_a_level_ends_when_its_patience_is_over_counted_from_its_own_start() -> None:
    plan = curriculum()
    assert not plan.observe(99, {"easy": 0.1})
    assert plan.observe(100, {"easy": 0.1})
    assert not plan.observe(199, {"middle": 0.1, "odd": 0.1})
    assert plan.observe(200, {"middle": 0.1, "odd": 0.1})


def test_without_patience_an_unread_level_lasts() -> None:
    assert not curriculum(max_steps=0).observe(10**6, {"easy": 0.1})


def test_the_last_level_stays() -> None:
    plan = curriculum()
    for step in (100, 200):
        plan.observe(step, {})
    assert not plan.observe(10**6, {"hard": 1.0})
    assert plan.level == 2


def test_a_restored_curriculum_goes_on_as_the_saved_one() -> None:
    saved, restored = curriculum(), curriculum()
    saved.observe(60, {"easy": 0.95})
    restored.restore(saved.state())
    assert restored.shares() == saved.shares()
    assert not restored.observe(159, {}) and restored.observe(160, {})
