"""The quorum rule against etcd's own raft library, over random memberships: nothing that loses a quorum is allowed."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Member
from labtools import ROOT, Notes

COUNT = 120_000


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built from its module with the checksums of its go.sum."""
    program = tmp_path_factory.mktemp("oracle") / "oracle"
    subprocess.run(
        ["go", "build", "-o", str(program), "."], cwd=ROOT / "tests" / "oracle", check=True, timeout=600
    )
    return program


def membership(chance: random.Random) -> tuple[list[Member], set[str]]:
    """Random members, and who of them answers: an alarm makes a member unhealthy that does answer."""
    members, answers = [], set()
    for number in range(1, chance.randint(1, 7) + chance.choice([0, 0, 0, 1, 1, 2]) + 1):
        learner = number > 1 and chance.random() < 0.12
        kind = chance.choices(["healthy", "alarm", "dead", "unstarted"], [70, 8, 16, 6])[0]
        members.append(
            Member(
                str(number),
                "" if kind == "unstarted" else f"n{number}",
                [f"https://192.0.2.{number}:2380"],
                [],
                is_learner=learner,
                healthy=kind == "healthy",
                error=None if kind == "healthy" else kind,
                alarms=["NOSPACE"] if kind == "alarm" else [],
            )
        )
        if kind in ("healthy", "alarm"):
            answers.add(str(number))
    return members, answers


def test_nothing_is_allowed_that_loses_the_quorum(oracle: Path, notes: Notes) -> None:
    """And whatever is refused although raft would keep its quorum is on the list of what is stricter."""
    chance = random.Random(20261121)
    questions, verdicts = [], []
    for _number in range(COUNT):
        members, answers = membership(chance)
        change = chance.choice(["announce", "promote", "remove", "pause"])
        learners = [one for one in members if one.is_learner]
        if change == "promote" and not learners:
            change = "remove"
        target = chance.choice(learners if change == "promote" else members)
        verdict = {
            "announce": lambda m=members: _quorum.may_announce(m),
            "promote": lambda m=members, t=target: _quorum.may_promote(m, t),
            "remove": lambda m=members, t=target: _quorum.may_remove(m, t),
            "pause": lambda m=members, t=target: _quorum.may_pause(m, t),
        }[change]()
        verdicts.append((change, members, target, verdict))
        questions.append(
            {
                "voters": [int(one.id) for one in members if not one.is_learner],
                "learners": [int(one.id) for one in learners],
                "answers": sorted(int(one) for one in answers),
                "change": change,
                "target": 99 if change == "announce" else int(target.id),
            }
        )
    asked = "".join(f"{json.dumps(one)}\n" for one in questions)
    said = subprocess.run(
        [str(oracle)], input=asked, capture_output=True, text=True, check=True, timeout=300
    ).stdout
    answered = [json.loads(line) for line in said.splitlines()]
    assert len(answered) == COUNT
    allowed, stricter = 0, Counter()
    for (change, members, target, verdict), question, real in zip(verdicts, questions, answered, strict=True):
        keeps = real["before"] and real["after"] and not real.get("error")
        context = (change, question, real, verdict, _quorum.table(members), target)
        if verdict.allowed:
            allowed += 1
            assert keeps, context
        elif keeps or real.get("error"):
            assert verdict.rule in _quorum.STRICTER, context
            stricter[verdict.rule] += 1
    assert allowed > COUNT / 10
    assert set(stricter) == set(_quorum.STRICTER)
    notes.add(
        f"quorum rule against raft: {COUNT} memberships, {allowed} changes allowed, stricter: {dict(stricter)}"
    )
