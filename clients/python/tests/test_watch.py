"""Whoever watches a task hears of every change and of its end, also across brokers that stop."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from conftest import wait_until
from playground import AUDIENCE, RESEARCHER, SUMMARIZER, Playground
from test_async import client

import leasehold
from leasehold import TaskState
from leasehold._watching import Watching
from leasehold.errors import CLASSES
from leasehold.models import TaskInfo


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Playground]:
    """A broker that may be stopped."""
    made = Playground(tmp_path / "play")
    yield made
    made.stop()


def begin(client: leasehold.Client) -> leasehold.Task:
    return client.begin(agent=SUMMARIZER, grant={AUDIENCE: ["read"]}, tier="standard", duration=600)


class Listener:
    """Hears a watch in a thread of its own."""

    def __init__(self, watch: leasehold.Watch) -> None:
        self.heard: list[TaskInfo] = []
        self.error: BaseException | None = None
        self._watch = watch
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for info in self._watch:
                self.heard.append(info)
        except leasehold.LeaseholdError as error:
            self.error = error

    def end(self) -> None:
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the watch does not end"


def test_the_first_thing_told_is_how_it_is_then_each_change_and_the_end_last(
    task: leasehold.Task, agent: leasehold.Client
) -> None:
    mine = agent.get(task.id)
    with mine.watch() as watch:
        assert next(watch) == mine.info
        task.advance(step="review")
        told = next(watch)
        assert (told.epoch, told.step, mine.info) == (2, "review", told)
        task.suspend("wait")
        assert (next(watch).state, mine.info.reason) == (TaskState.SUSPENDED, "wait")
        task.resume()
        assert next(watch).state is TaskState.ACTIVE
        task.complete("it is written")
        (last,) = watch
        assert (last.state, last.reason) == (TaskState.COMPLETED, "it is written")
        assert mine.state is TaskState.COMPLETED
        assert next(watch, None) is None
    assert [info.state for info in agent.watch(task.id)] == [TaskState.COMPLETED]


def test_a_heartbeat_is_no_news(orchestrator: leasehold.Client) -> None:
    task = orchestrator.begin(
        agent=SUMMARIZER,
        grant={AUDIENCE: ["read"]},
        tier="standard",
        duration=600,
        heartbeat_interval=60,
    )
    with task.watch() as watch:
        next(watch)
        task.heartbeat()
        task.advance(step="two")
        assert next(watch).epoch == 2


def test_what_ends_above_is_told_with_its_cause(
    playground: Playground, task: leasehold.Task
) -> None:
    child = task.delegate(agent=RESEARCHER, grant={AUDIENCE: ["read"]})
    with playground.client("researcher") as researcher:
        waiting = threading.Thread(target=researcher.get(child.id).wait_ended, daemon=True)
        waiting.start()
        with researcher.watch(child.id) as watch:
            assert next(watch).state is TaskState.ACTIVE
            task.complete()
            told = next(watch)
        waiting.join(timeout=30)
    assert (told.state, told.cause_id) == (TaskState.CANCELLED, task.id)
    assert not waiting.is_alive()


def test_whoever_waits_for_the_end_is_told_how_it_ended(
    task: leasehold.Task, agent: leasehold.Client
) -> None:
    ended: list[TaskInfo] = []
    mine = agent.get(task.id)
    waiting = threading.Thread(target=lambda: ended.append(mine.wait_ended()), daemon=True)
    waiting.start()
    task.advance(step="two")
    assert ended == []
    task.fail("no quorum")
    waiting.join(timeout=30)
    assert [(info.state, info.reason) for info in ended] == [(TaskState.FAILED, "no quorum")]


def test_a_watch_outlives_its_broker_and_has_what_was_missed(site: Playground) -> None:
    with site.client("orchestrator") as orchestrator, site.client("summarizer") as agent:
        task = begin(orchestrator)
        listener = Listener(agent.watch(task.id))
        wait_until(lambda: len(listener.heard) == 1)
        site.stop()
        site.start()
        task.advance(step="two")
        task.complete()
        listener.end()
    assert listener.error is None
    heard = [(info.state, info.epoch) for info in listener.heard]
    # What it was meanwhile need not be told; the same is told once.
    assert (heard[0], heard[-1]) == ((TaskState.ACTIVE, 1), (TaskState.COMPLETED, 2))
    assert len(set(heard)) == len(heard)


def test_what_cannot_be_watched_is_said_at_once(
    playground: Playground, task: leasehold.Task
) -> None:
    with playground.client("researcher") as stranger:
        with pytest.raises(leasehold.NotFoundError):
            next(stranger.watch(task.id))
        with pytest.raises(leasehold.RequestError):
            next(stranger.watch("no task"))
    nobody = leasehold.Client(
        "https://127.0.0.1:1", ca=playground.ca, identity=playground.identity("summarizer")
    )
    with nobody, pytest.raises(leasehold.UnavailableError) as caught:
        next(nobody.watch(task.id))
    assert caught.value.reason == "BROKER_UNREACHABLE"


def test_the_first_answer_comes_in_the_time_of_a_call_or_none_does(
    playground: Playground,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://127.0.0.1:{silent.getsockname()[1]}"
        identity = playground.identity("summarizer")

        async def main() -> None:
            hasty = leasehold.AsyncClient(address, ca=playground.ca, identity=identity, timeout=0.3)
            async with hasty:
                with pytest.raises(leasehold.UnavailableError, match="did not answer in time"):
                    await anext(hasty.watch("tsk_00"))

        with leasehold.Client(address, ca=playground.ca, identity=identity, timeout=0.3) as client:
            began = time.monotonic()
            with pytest.raises(leasehold.UnavailableError, match="did not answer in time"):
                next(client.watch("tsk_00"))
            assert time.monotonic() - began < 10
        asyncio.run(main())


def test_closed_by_somebody_else_it_says_so_and_does_not_pass_for_an_end(
    playground: Playground, task: leasehold.Task
) -> None:
    client = playground.client("summarizer")
    watches = [client.watch(task.id) for _ in range(2)]
    listeners = [Listener(watch) for watch in watches]
    wait_until(lambda: all(listener.heard for listener in listeners))
    watches[0].close()
    listeners[0].end()
    client.close()
    listeners[1].end()
    for listener in listeners:
        assert isinstance(listener.error, leasehold.LeaseholdError)
        assert listener.error.reason == "CLOSED"
        assert len(listener.heard) == 1


def test_one_that_is_forgotten_is_watched_no_more(
    agent: leasehold.Client, task: leasehold.Task
) -> None:
    watch = agent.watch(task.id)
    next(watch)
    line = agent._transport._line
    assert line is not None
    assert line.users == 1
    gc.disable()
    try:
        del watch
        wait_until(lambda: line.users == 0)
    finally:
        gc.enable()


def test_a_watch_goes_on_with_another_certificate_when_the_first_has_expired(
    playground: Playground, task: leasehold.Task, tmp_path: Path
) -> None:
    short = playground.authority.svid(SUMMARIZER, seconds=2)
    identity = short.write(tmp_path)
    with leasehold.Client(playground.address, ca=playground.ca, identity=identity) as agent:
        watch = agent.watch(task.id)
        listener = Listener(watch)
        wait_until(lambda: len(listener.heard) == 1)
        answers = watch._answers
        playground.authority.svid(SUMMARIZER).write(tmp_path)
        wait_until(lambda: watch._answers is not None and watch._answers is not answers)
        task.complete()
        listener.end()
    assert listener.error is None
    assert [info.state for info in listener.heard] == [TaskState.ACTIVE, TaskState.COMPLETED]


def info(**terms: object) -> TaskInfo:
    now = datetime.now(timezone.utc)
    given: dict[str, object] = dict.fromkeys(TaskInfo.__dataclass_fields__)
    return TaskInfo(**{**given, "state": TaskState.ACTIVE, "update_time": now, **terms})  # type: ignore[arg-type]


def failure(reason: str, code: str = "UNKNOWN") -> leasehold.LeaseholdError:
    return CLASSES.get(reason, leasehold.LeaseholdError)("no", reason=reason, code=code)


def test_what_is_lost_is_waited_out_once_it_was_told_and_what_is_refused_is_not() -> None:
    def watching() -> Watching:
        return Watching(lambda _: None, lambda: 0.999999)

    with pytest.raises(leasehold.UnavailableError):
        watching().lose(failure("BROKER_UNREACHABLE"))
    assert Watching(lambda _: 7.0, lambda: 0.0).lose(failure("BROKER_UNREACHABLE")) == 7.0
    with pytest.raises(leasehold.LeaseholdError, match="without a word"):
        watching().lose(None)
    told = watching()
    assert told.hear(info(epoch=1))
    waits = [told.lose(failure("BROKER_UNREACHABLE")) for _ in range(3)] + [told.lose(None)]
    assert [round(wait, 3) for wait in waits] == [0.5, 1.0, 2.0, 4.0]
    assert not told.hear(info(epoch=1, update_time=datetime.now(timezone.utc)))
    assert round(told.lose(failure("INTERNAL")), 3) == 0.5
    asks = failure("RATE_LIMITED")
    asks.retry_after = timedelta(seconds=9)
    assert told.lose(asks) == 9.0
    for reason in ("NOT_FOUND", "ROLE_MISSING", "REQUEST_INVALID", "UNIMPLEMENTED", "CLOSED"):
        with pytest.raises(leasehold.LeaseholdError, match=reason):
            told.lose(failure(reason))
    with pytest.raises(leasehold.IdentityError):
        told.lose(failure("IDENTITY_UNVERIFIED"))
    assert not told.hear(info(epoch=1))
    assert told.lose(failure("IDENTITY_UNVERIFIED")) > 0, "let in, and no longer"
    with pytest.raises(leasehold.IdentityError):
        told.lose(failure("IDENTITY_UNVERIFIED"))
    assert not told.is_over
    assert told.hear(info(epoch=1, state=TaskState.UNKNOWN))
    assert told.lose(failure("BROKER_UNREACHABLE")) > 0
    with pytest.raises(leasehold.LeaseholdError, match="does not know"):
        told.lose(None)
    assert told.hear(info(epoch=1, state=TaskState.REVOKED))
    assert told.is_over


def test_the_same_with_async_for(site: Playground) -> None:
    async def main() -> None:
        async with client(site, "orchestrator") as orchestrator, client(site, "summarizer") as mine:
            task = await orchestrator.begin(
                agent=SUMMARIZER, grant={AUDIENCE: ["read"]}, tier="standard", duration=600
            )
            watched = await mine.get(task.id)
            heard = []
            ending = asyncio.create_task(watched.wait_ended())
            async for told in mine.watch(task.id):
                heard.append((told.state, told.epoch))
                if len(heard) == 1:
                    await asyncio.to_thread(site.stop)
                    await asyncio.to_thread(site.start)
                    await task.advance(step="two")
                elif heard[-1] == (TaskState.ACTIVE, 2):
                    await task.complete("done")
            assert heard == [
                (TaskState.ACTIVE, 1),
                (TaskState.ACTIVE, 2),
                (TaskState.COMPLETED, 2),
            ]
            ended = await ending
            assert (ended.reason, watched.state) == ("done", TaskState.COMPLETED)
            assert watched.info == ended

    asyncio.run(main())


def test_who_is_cancelled_while_it_waits_can_go_on_and_a_closed_client_is_said(
    playground: Playground, task: leasehold.Task
) -> None:
    async def main() -> None:
        mine = client(playground, "summarizer")
        watch = mine.watch(task.id)
        for _ in range(2):
            # Before the first answer, and after it.
            waiting = asyncio.create_task(anext(watch))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            if not watch._watching._told:
                assert (await anext(watch)).epoch == 1
        await asyncio.to_thread(task.advance, step="two")
        assert (await anext(watch)).epoch == 2
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        await mine.aclose()
        with pytest.raises(leasehold.LeaseholdError, match="CLOSED"):
            await waiting
        await watch.aclose()
        with pytest.raises(leasehold.LeaseholdError, match="CLOSED"):
            await anext(watch)

    asyncio.run(main())
