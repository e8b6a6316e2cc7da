"""The life of tasks, as an orchestrator drives it."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import wait_until
from playground import AUDIENCE, RESEARCHER, SUMMARIZER, Playground

import leasehold
from leasehold import Access, TaskState

GRANT = {AUDIENCE: ["read"]}


class SomethingBrokeError(Exception):
    """What goes wrong in a block."""


def begin(orchestrator: leasehold.Client) -> leasehold.Task:
    return orchestrator.begin(agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60)


def test_a_task_is_as_it_was_begun(orchestrator: leasehold.Client) -> None:
    deadline = datetime.now(timezone.utc) + timedelta(minutes=20)
    access = Access(AUDIENCE, ["read"], data_class=["public"], max_ttl_seconds=60)
    task = orchestrator.begin(
        agent=SUMMARIZER,
        grant=[access],
        tier="standard",
        deadline=deadline,
        purpose="summarize",
        owner="docs",
        labels={"run": "17"},
        step="first",
        checkpoint=b"\x00page 3",
        instances=2,
    )
    info = orchestrator.get(task.id).info
    assert info == task.info
    assert (info.state, info.epoch, info.branch, info.depth) == (TaskState.ACTIVE, 1, 1, 0)
    assert (info.agent, info.agent_class, info.tier) == (SUMMARIZER, "summarizer", "standard")
    assert (info.purpose, info.owner, info.labels) == ("summarize", "docs", {"run": "17"})
    assert (info.step, info.checkpoint, info.instances) == ("first", b"\x00page 3", 2)
    assert info.grant == (access,)
    assert (info.root_id, info.parent_id, info.end_time) == (task.id, None, None)
    assert abs(info.deadline - deadline) < timedelta(milliseconds=1)


def test_a_block_that_ends_completes_its_task(orchestrator: leasehold.Client) -> None:
    with orchestrator.task(agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60) as task:
        assert orchestrator.get(task.id).state is TaskState.ACTIVE
    assert task.state is TaskState.COMPLETED
    assert task.state.is_ended
    assert orchestrator.get(task.id).state is TaskState.COMPLETED


def test_an_exception_fails_its_task_and_its_message_stays_here(
    orchestrator: leasehold.Client,
) -> None:
    terms: dict[str, Any] = {"agent": SUMMARIZER, "tier": "standard"}
    with (
        pytest.raises(SomethingBrokeError),
        orchestrator.task(grant=GRANT, duration=60, **terms) as task,
    ):
        raise SomethingBrokeError("password=hunter2")
    info = orchestrator.get(task.id).info
    assert (info.state, info.reason) == (TaskState.FAILED, "SomethingBrokeError")


def test_a_block_leaves_alone_what_was_ended_inside(orchestrator: leasehold.Client) -> None:
    with orchestrator.task(agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60) as task:
        task.cancel("not wanted any more")
    info = orchestrator.get(task.id).info
    assert (info.state, info.reason) == (TaskState.CANCELLED, "not wanted any more")


def test_a_block_whose_task_somebody_else_ended_says_so(
    orchestrator: leasehold.Client,
) -> None:
    terms: dict[str, Any] = {"agent": SUMMARIZER, "tier": "standard"}
    with (
        pytest.raises(leasehold.TaskEndedError),
        orchestrator.task(grant=GRANT, duration=60, **terms) as task,
    ):
        orchestrator.get(task.id).cancel()


def test_a_block_sends_the_heartbeats_that_its_task_expects(
    orchestrator: leasehold.Client,
) -> None:
    silent = orchestrator.begin(
        agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60, heartbeat_interval=1
    )
    with orchestrator.task(
        agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60, heartbeat_interval=1
    ) as task:
        wait_until(lambda: silent.refresh().state is TaskState.SUSPENDED)
        assert task.refresh().state is TaskState.ACTIVE
    assert task.state is TaskState.COMPLETED


def test_a_heartbeat_says_when_silence_acts(orchestrator: leasehold.Client) -> None:
    silent = orchestrator.begin(
        agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60, heartbeat_interval=10
    )
    silence = silent.heartbeat()
    assert timedelta(0) < silence - datetime.now(timezone.utc) <= timedelta(seconds=31)
    with pytest.raises(leasehold.RequestError, match="nobody waits"):
        begin(orchestrator).heartbeat()


def test_a_change_raises_the_epoch_and_leaves_what_was_not_said(
    task: leasehold.Task,
) -> None:
    before = task.info
    after = task.advance(step="review", grant=GRANT)
    assert (after.epoch, after.step) == (before.epoch + 1, "review")
    assert after.grant == (Access(AUDIENCE, ["read"]),)
    assert (after.purpose, after.checkpoint, after.agent) == (
        before.purpose,
        before.checkpoint,
        before.agent,
    )


def test_who_is_behind_is_told_the_epoch(
    orchestrator: leasehold.Client, task: leasehold.Task
) -> None:
    behind = orchestrator.get(task.id)
    task.advance(step="two")
    with pytest.raises(leasehold.EpochStaleError) as caught:
        behind.advance(step="three")
    assert caught.value.current_epoch == 2
    assert behind.advance(step="three", expected_epoch=2).epoch == 3


def test_a_task_is_suspended_and_resumed(task: leasehold.Task) -> None:
    assert task.suspend("wait").state is TaskState.SUSPENDED
    assert task.info.reason == "wait"
    assert not task.state.is_ended
    assert task.resume().state is TaskState.ACTIVE


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        ("complete", TaskState.COMPLETED),
        ("fail", TaskState.FAILED),
        ("cancel", TaskState.CANCELLED),
    ],
)
def test_an_ending_is_final(task: leasehold.Task, verb: str, state: TaskState) -> None:
    assert getattr(task, verb)("said why").state is state
    assert task.info.reason == "said why"
    with pytest.raises(leasehold.TaskEndedError):
        task.suspend()


def test_a_child_has_no_more_than_its_parent_and_ends_with_it(
    playground: Playground, orchestrator: leasehold.Client, agent: leasehold.Client
) -> None:
    parent = begin(orchestrator)
    mine = agent.get(parent.id)
    child = mine.delegate(agent=RESEARCHER, grant=GRANT, purpose="look something up")
    assert (child.info.parent_id, child.info.depth, child.info.tier) == (parent.id, 1, "standard")
    with pytest.raises(leasehold.DeniedError) as caught:
        mine.delegate(agent=RESEARCHER, grant={AUDIENCE: ["read", "write"]})
    assert caught.value.reason == "GRANT_WIDENS"
    parent.complete()
    with playground.client("researcher") as researcher:
        ended = researcher.get(child.id).info
    assert (ended.state, ended.cause_id) == (TaskState.CANCELLED, parent.id)


def test_a_list_has_every_page_and_only_the_state_that_was_asked_for(
    orchestrator: leasehold.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leasehold._calls.PAGE_SIZE", 2)
    living = [begin(orchestrator).id for _ in range(5)]
    ended = begin(orchestrator)
    ended.complete()
    active = [task.id for task in orchestrator.list(state=TaskState.ACTIVE)]
    assert set(living) <= set(active)
    assert ended.id not in active
    assert ended.id in [task.id for task in orchestrator.list()]


def test_the_same_request_id_begins_one_task(orchestrator: leasehold.Client) -> None:
    wanted = uuid.uuid4()
    terms: dict[str, Any] = {"agent": SUMMARIZER, "tier": "standard", "request_id": wanted}
    first = orchestrator.begin(grant=GRANT, duration=60, **terms)
    assert orchestrator.begin(grant=GRANT, duration=60, **terms).id == first.id
    with pytest.raises(leasehold.RequestError) as caught:
        orchestrator.begin(grant=GRANT, duration=61, **terms)
    assert (caught.value.reason, caught.value.request_id) == ("REQUEST_ID_REUSED", str(wanted))


def test_what_is_wrong_before_anything_is_sent_is_said_by_field(
    orchestrator: leasehold.Client,
) -> None:
    now = datetime.now(timezone.utc)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"deadline": now.replace(tzinfo=None)}, "deadline"),
        ({"duration": 0}, "duration"),
        ({"duration": 60, "deadline": now}, "duration"),
        ({"duration": 60, "request_id": "17"}, "request_id"),
        ({"duration": 60, "grant": {AUDIENCE: "read"}}, "actions"),
    ]
    for terms, field in wrong:
        given: dict[str, Any] = {"agent": SUMMARIZER, "grant": GRANT, "tier": "standard", **terms}
        with pytest.raises(leasehold.RequestError) as caught:
            orchestrator.begin(**given)
        assert [violation.field for violation in caught.value.field_violations] == [field]


def test_tasks_of_others_are_not_there(playground: Playground, task: leasehold.Task) -> None:
    with playground.client("researcher") as stranger, pytest.raises(leasehold.NotFoundError):
        stranger.get(task.id)
