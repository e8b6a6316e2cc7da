"""The client with `await` does what the one without does."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playground import AUDIENCE, LEDGER, RESEARCHER, SUMMARIZER, Playground

import leasehold
from leasehold import TaskState
from leasehold.verifier import AsyncVerifier, Verifier

T = TypeVar("T")
GRANT = {AUDIENCE: ["read"]}
PATIENCE = 30.0


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(main())


def client(playground: Playground, who: str, timeout: float = 10) -> leasehold.AsyncClient:
    identity = playground.identity(who)
    return leasehold.AsyncClient(
        playground.address, ca=playground.ca, identity=identity, timeout=timeout
    )


async def wait_until(fact: Callable[[], Awaitable[bool]]) -> None:
    until = time.monotonic() + PATIENCE
    while not await fact():
        assert time.monotonic() < until, "it did not come to pass"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("plain", "awaited"),
    [
        (leasehold.Client, leasehold.AsyncClient),
        (leasehold.Task, leasehold.AsyncTask),
        (leasehold.Credential, leasehold.AsyncCredential),
        (Verifier, AsyncVerifier),
    ],
)
def test_it_has_the_same_verbs_with_the_same_arguments(plain: type, awaited: type) -> None:
    def verbs(kind: type) -> dict[str, list[str]]:
        found = {name: verb for name, verb in vars(kind).items() if not name.startswith("_")}
        return {
            {"aclose": "close"}.get(name, name): list(inspect.signature(verb).parameters)
            for name, verb in found.items()
            if callable(verb)
        }

    assert verbs(plain) == verbs(awaited)
    init = [list(inspect.signature(kind).parameters) for kind in (plain, awaited)]
    assert init[0] == init[1]


def test_a_task_lives_its_whole_life(playground: Playground) -> None:
    async def main() -> None:
        async with client(playground, "orchestrator") as orchestrator:
            begun = await orchestrator.begin(
                agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60, heartbeat_interval=10
            )
            assert (await begun.heartbeat()) > begun.info.begin_time
            assert (await begun.advance(step="two")).epoch == 2
            assert (await begun.suspend("wait")).state is TaskState.SUSPENDED
            assert (await begun.resume()).state is TaskState.ACTIVE
            child = await begun.delegate(agent=RESEARCHER, grant=GRANT)
            assert child.info.parent_id == begun.id
            assert (await child.cancel()).state is TaskState.CANCELLED
            assert (await begun.refresh()).live_children == 0
            listed = [task.id async for task in orchestrator.list(state=TaskState.ACTIVE)]
            assert begun.id in listed
            assert (await begun.fail("said why")).reason == "said why"
            assert (await orchestrator.get(begun.id)).state is TaskState.FAILED
            with pytest.raises(leasehold.TaskEndedError):
                await begun.complete()

    run(main)


def test_a_block_completes_its_task_or_fails_it_and_sends_its_heartbeats(
    playground: Playground,
) -> None:
    async def main() -> None:
        terms: dict[str, Any] = {"agent": SUMMARIZER, "grant": GRANT, "tier": "standard"}
        async with client(playground, "orchestrator") as orchestrator:
            silent = await orchestrator.begin(**terms, duration=60, heartbeat_interval=1)
            async with orchestrator.task(**terms, duration=60, heartbeat_interval=1) as task:

                async def is_suspended() -> bool:
                    return (await silent.refresh()).state is TaskState.SUSPENDED

                await wait_until(is_suspended)
                assert (await task.refresh()).state is TaskState.ACTIVE
            assert task.state is TaskState.COMPLETED
            with pytest.raises(ZeroDivisionError):
                async with orchestrator.task(**terms, duration=60) as broken:
                    raise ZeroDivisionError("password=hunter2")
            info = (await orchestrator.get(broken.id)).info
            assert (info.state, info.reason) == (TaskState.FAILED, "ZeroDivisionError")

    run(main)


def test_who_is_cancelled_fails_its_task(playground: Playground) -> None:
    async def main() -> None:
        async with client(playground, "orchestrator") as orchestrator:
            begun: asyncio.Queue[str] = asyncio.Queue()

            async def work() -> None:
                async with orchestrator.task(
                    agent=SUMMARIZER, grant=GRANT, tier="standard", duration=60
                ) as task:
                    await begun.put(task.id)
                    await asyncio.sleep(60)

            working = asyncio.create_task(work())
            task_id = await begun.get()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            info = (await orchestrator.get(task_id)).info
            assert (info.state, info.reason) == (TaskState.FAILED, "CancelledError")

    run(main)


def test_a_credential_is_renewed_and_follows_a_change_and_ends_with_its_task(
    playground: Playground, task: leasehold.Task, documents: leasehold.Client
) -> None:
    async def main() -> None:
        async with client(playground, "summarizer") as agent:
            credential = await agent.credential(task.id, AUDIENCE, ttl=3)
            first = await credential.current()

            async def is_renewed() -> bool:
                return (await credential.current()).token != first.token

            await wait_until(is_renewed)
            assert (await credential.current()).lease_id == first.lease_id
            await asyncio.to_thread(task.advance, step="two")

            async def is_second() -> bool:
                return (await credential.current()).epoch == 2

            await wait_until(is_second)
            assert documents.introspect(await credential.token()).active
            assert (await credential.headers())["Authorization"].startswith("Bearer ")
            await asyncio.to_thread(task.complete)

            async def is_over() -> bool:
                return credential.error is not None

            await wait_until(is_over)
            with pytest.raises(leasehold.TaskEndedError):
                await credential.token()
            await credential.release()

    run(main)


def test_many_who_find_it_expired_ask_once(playground: Playground, task: leasehold.Task) -> None:
    async def main() -> None:
        async with (
            client(playground, "summarizer") as agent,
            await agent.credential(task.id, AUDIENCE) as credential,
        ):
            before = credential._renewal.latest
            credential._renewal._is_dead = True
            tokens = await asyncio.gather(*(credential.token() for _ in range(20)))
            assert len(set(tokens)) == 1
            assert before is not None
            assert tokens[0] != before.token

    run(main)


def test_suspended_there_is_none_and_resumed_there_is(
    playground: Playground, task: leasehold.Task
) -> None:
    async def main() -> None:
        async with (
            client(playground, "summarizer") as agent,
            await agent.credential(task.id, AUDIENCE, proof="key") as credential,
        ):
            await asyncio.to_thread(task.suspend)
            with pytest.raises(leasehold.TaskStateError):
                await credential.refresh()
            await asyncio.to_thread(task.resume)
            assert (await credential.current()).epoch == 2

    run(main)


def test_left_it_gives_its_lease_back_and_forgotten_it_is_renewed_no_more(
    playground: Playground, task: leasehold.Task, documents: leasehold.Client
) -> None:
    async def main() -> None:
        async with client(playground, "summarizer") as agent:
            async with await agent.credential(task.id, AUDIENCE) as credential:
                token = await credential.token()
            assert not documents.introspect(token).active
            with pytest.raises(leasehold.LeaseholdError, match="CLOSED"):
                await credential.token()
            forgotten = await agent.certificate(task.id)
            keeper = forgotten._keeper
            assert keeper is not None
            await asyncio.sleep(0)
            del forgotten
            gc.collect()

            async def is_done() -> bool:
                return keeper.done()

            await wait_until(is_done)

    run(main)


def test_refusals_are_the_same_errors(playground: Playground, task: leasehold.Task) -> None:
    async def main() -> None:
        async with client(playground, "summarizer") as agent:
            with pytest.raises(leasehold.DeniedError) as caught:
                await agent.credential(task.id, LEDGER)
            assert caught.value.reason == "TARGET_NOT_ALLOWED"
            with pytest.raises(leasehold.EpochStaleError) as stale:
                await agent.credential(task.id, AUDIENCE, expected_epoch=7)
            assert stale.value.current_epoch == 1
        async with client(playground, "documents") as documents:
            assert not (await documents.introspect("no token")).active
        with pytest.raises(leasehold.LeaseholdError, match="CLOSED"):
            await documents.introspect("no token")

    run(main)


def test_a_broker_that_is_away_is_said(playground: Playground) -> None:
    async def main() -> None:
        identity = playground.identity("summarizer")
        address = "https://127.0.0.1:1"
        async with leasehold.AsyncClient(address, ca=playground.ca, identity=identity) as agent:
            with pytest.raises(leasehold.UnavailableError) as caught:
                await agent.get("tsk_00")
            assert agent._transport._line is None, "the next call connects anew"
        assert caught.value.reason == "BROKER_UNREACHABLE"

    run(main)


def test_a_rotated_svid_is_picked_up_and_calls_over_the_earlier_one_are_not_cut_off(
    playground: Playground,
    task: leasehold.Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        identity = playground.authority.svid(SUMMARIZER).write(tmp_path)
        async with leasehold.AsyncClient(
            playground.address, ca=playground.ca, identity=identity
        ) as agent:
            transport = agent._transport
            async with transport._connected() as before:
                close = before.channel.close

                async def counted() -> None:
                    await close()
                    closed.append(True)

                monkeypatch.setattr(before.channel, "close", counted)
                playground.authority.svid(SUMMARIZER).write(tmp_path)
                assert (await agent.get(task.id)).id == task.id
                assert closed == []
            assert closed == [True]

    closed: list[bool] = []
    run(main)


def test_it_is_in_nothing_that_is_printed_or_logged(
    playground: Playground, task: leasehold.Task
) -> None:
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logger = logging.getLogger()

    async def main() -> leasehold.IssuedCredential:
        async with (
            client(playground, "summarizer") as agent,
            await agent.credential(task.id, AUDIENCE, proof="key") as credential,
        ):
            issued = await credential.current()
            print(credential, repr(credential), issued, agent, file=told)
            return issued

    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        issued = run(main)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.WARNING)
    assert "lives until" in told.getvalue()
    assert issued.token.split(".")[2] not in told.getvalue()


def test_the_same_request_id_is_answered_once(playground: Playground) -> None:
    async def main() -> None:
        async with client(playground, "orchestrator") as orchestrator:
            terms: dict[str, Any] = {"agent": SUMMARIZER, "grant": GRANT, "tier": "standard"}
            wanted = uuid.uuid4()
            both = [
                (await orchestrator.begin(**terms, duration=60, request_id=wanted)).id
                for _ in range(2)
            ]
            assert both[0] == both[1]

    run(main)
