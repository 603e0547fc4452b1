#!/usr/bin/env python3
"""interpreter.py < PROGRAMS: runs programs of the fuzzer on CPython's asyncio, with a clock that jumps, and prints their traces.

interpreter.cpp does the same on coil. What CPython leaves to chance is put in order here, and only that: timers with the same deadline
run in the order of their creation, and a task group cancels its children in that order.
"""

import asyncio
import heapq
import logging
import os
import sys

import programs


class Deadlock(BaseException):
    pass


# Loops that a deadlock ended. Were their tasks collected, their cleanup would run inside the next program.
GRAVEYARD = []


class OrderedTimer(asyncio.TimerHandle):
    __slots__ = ("number",)

    def __lt__(self, other):
        return (self._when, self.number) < (other._when, other.number)


class VirtualLoop(asyncio.BaseEventLoop):
    """Time stands still while anything can run, and jumps to the next deadline when nothing can. It counts milliseconds."""

    def __init__(self):
        super().__init__()
        self._clock_resolution = 1e-6
        self._selector = self
        self.now = 0.0
        self.created = 0
        self.tasks = []
        self.set_task_factory(self.make_task)

    def time(self):
        return self.now

    def make_task(self, loop, coro, **options):
        task = asyncio.Task(coro, loop=loop, **options)
        self.tasks.append(task)
        return task

    def call_at(self, when, callback, *args, context=None):
        timer = OrderedTimer(when, callback, args, self, context)
        self.created += 1
        timer.number = self.created
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def call_exception_handler(self, context):
        pass

    # The selector's part.

    def select(self, timeout):
        if timeout is None:
            raise Deadlock
        if timeout > 0:
            self.now = self._scheduled[0]._when
        return []

    def _process_events(self, events):
        pass

    def _write_to_self(self):
        pass


class OrderedSet(dict):
    def add(self, item):
        self[item] = None

    def discard(self, item):
        self.pop(item, None)


class TaskGroup(asyncio.TaskGroup):
    def __init__(self):
        super().__init__()
        self._tasks = OrderedSet()


class AppError(Exception):
    pass


def name_of(error):
    if isinstance(error, asyncio.CancelledError):
        return "Cancelled"
    if isinstance(error, AppError):
        return f"App{error.args[0]}"
    if isinstance(error, ExceptionGroup):
        return f"Group[{','.join(map(name_of, error.exceptions))}]"
    return type(error).__name__


def text_of(outcome):
    return "!" + name_of(outcome) if isinstance(outcome, BaseException) else outcome


def yes_no(flag):
    return "yes" if flag else "no"


def limit(number):
    return None if number < 0 else number


class Body:
    def __init__(self, name):
        self.name, self.timeouts, self.groups = name, [], []


class World:
    def __init__(self, tolerant, objects, trace):
        self.tolerant = tolerant
        made = {"lock": [], "semaphore": [], "event": [], "condition": [], "barrier": [], "queue": []}
        for node in objects.nodes:
            numbers = node.numbers
            made[node.op].append({
                "lock": asyncio.Lock,
                "semaphore": lambda: (asyncio.BoundedSemaphore if numbers[1] else asyncio.Semaphore)(numbers[0]),
                "event": asyncio.Event,
                "condition": asyncio.Condition,
                "barrier": lambda: asyncio.Barrier(numbers[0]),
                "queue": lambda: (asyncio.Queue, asyncio.PriorityQueue, asyncio.LifoQueue)[numbers[0]](numbers[1]),
            }[node.op]())
        self.locks, self.semaphores, self.events = made["lock"], made["semaphore"], made["event"]
        self.conditions, self.barriers, self.queues = made["condition"], made["barrier"], made["queue"]
        self.slots, self.counters, self.bodies, self.trace = {}, {}, 0, trace

    def log(self, body, id, text):
        self.trace.append(f"{int(asyncio.get_running_loop().time())} {body.name}:{id} {text}")

    async def run_main(self, program):
        main = Body("main")
        try:
            await self.run_all(main, program)
        except BaseException as e:
            self.log(main, -1, "!" + name_of(e))
        else:
            self.log(main, -1, "end")
        current = asyncio.current_task()
        left = [task for task in asyncio.get_running_loop().tasks if task is not current and not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        self.log(main, -1, "all done")

    async def run_body(self, name, node):
        body = Body(name)
        await self.run_all(body, node)
        return name

    def new_body(self, node):
        self.bodies += 1
        return self.run_body(f"b{self.bodies}", node)

    async def run_all(self, body, sequence):
        for statement in sequence.nodes:
            try:
                result = await getattr(self, "do_" + statement.op)(body, statement)
            except BaseException as e:
                result = "!" + name_of(e)
                if not self.tolerant or isinstance(e, (asyncio.CancelledError, AppError)):
                    self.log(body, statement.id, result)
                    raise
            self.log(body, statement.id, result)

    def tasks_in(self, slots):
        return [(slot, self.slots[slot]) for slot in slots if slot in self.slots]

    # Control.

    async def do_sleep(self, body, node):
        await asyncio.sleep(node.numbers[0])
        return "slept"

    async def do_raise(self, body, node):
        raise AppError(node.numbers[0])

    async def do_try(self, body, node):
        what, swallow = node.numbers
        error, caught = None, False
        try:
            await self.run_all(body, node.nodes[0])
        except BaseException as e:
            error = e
        if error is not None:
            caught = what == 2 or (what == 1) == isinstance(error, asyncio.CancelledError)
        if caught:
            self.log(body, node.id, "caught " + name_of(error))
            try:
                await self.run_all(body, node.nodes[1])
            except BaseException as e:
                error = e
            else:
                if swallow:
                    error = None
        await self.run_all(body, node.nodes[2])
        if error is not None:
            raise error
        return "handled" if caught else "tried"

    async def do_repeat(self, body, node):
        for _ in range(node.numbers[0]):
            await self.run_all(body, node.nodes[0])
        return "repeated"

    # Locks.

    async def inside(self, manager, body, node):
        async with manager:
            self.log(body, node.id, "entered")
            await self.run_all(body, node.nodes[0])
        return "left"

    async def do_lock(self, body, node):
        return await self.inside(self.locks[node.numbers[0]], body, node)

    async def do_acquire(self, body, node):
        await self.locks[node.numbers[0]].acquire()
        return "acquired"

    async def do_release(self, body, node):
        self.locks[node.numbers[0]].release()
        return "released"

    async def do_semaphore(self, body, node):
        return await self.inside(self.semaphores[node.numbers[0]], body, node)

    async def do_semaphore_release(self, body, node):
        self.semaphores[node.numbers[0]].release()
        return yes_no(self.semaphores[node.numbers[0]].locked())

    async def do_event_wait(self, body, node):
        await self.events[node.numbers[0]].wait()
        return "set"

    async def do_event_set(self, body, node):
        self.events[node.numbers[0]].set()
        return "ok"

    async def do_event_clear(self, body, node):
        self.events[node.numbers[0]].clear()
        return "ok"

    async def do_condition(self, body, node):
        return await self.inside(self.conditions[node.numbers[0]], body, node)

    async def do_condition_wait(self, body, node):
        return yes_no(await self.conditions[node.numbers[0]].wait())

    async def do_condition_wait_for(self, body, node):
        condition, counter, least = node.numbers
        await self.conditions[condition].wait_for(lambda: self.counters.get(counter, 0) >= least)
        return str(self.counters.get(counter, 0))

    async def do_notify(self, body, node):
        self.conditions[node.numbers[0]].notify(node.numbers[1])
        return "ok"

    async def do_notify_all(self, body, node):
        self.conditions[node.numbers[0]].notify_all()
        return "ok"

    async def do_count(self, body, node):
        self.counters[node.numbers[0]] = self.counters.get(node.numbers[0], 0) + 1
        return str(self.counters[node.numbers[0]])

    async def do_barrier_wait(self, body, node):
        return str(await self.barriers[node.numbers[0]].wait())

    async def do_barrier_reset(self, body, node):
        await self.barriers[node.numbers[0]].reset()
        return str(self.barriers[node.numbers[0]].n_waiting)

    async def do_barrier_abort(self, body, node):
        await self.barriers[node.numbers[0]].abort()
        return yes_no(self.barriers[node.numbers[0]].broken)

    # Queues.

    async def do_put(self, body, node):
        await self.queues[node.numbers[0]].put(node.numbers[1])
        return "put"

    async def do_get(self, body, node):
        return str(await self.queues[node.numbers[0]].get())

    async def do_put_nowait(self, body, node):
        self.queues[node.numbers[0]].put_nowait(node.numbers[1])
        return "put"

    async def do_get_nowait(self, body, node):
        return str(self.queues[node.numbers[0]].get_nowait())

    async def do_task_done(self, body, node):
        self.queues[node.numbers[0]].task_done()
        return "ok"

    async def do_join(self, body, node):
        await self.queues[node.numbers[0]].join()
        return "joined"

    async def do_shutdown(self, body, node):
        self.queues[node.numbers[0]].shutdown(node.numbers[1] != 0)
        return "ok"

    # Time-outs and groups.

    async def do_timeout(self, body, node):
        expired = False
        try:
            async with asyncio.timeout(limit(node.numbers[0])) as scope:
                body.timeouts.append(scope)
                try:
                    await self.run_all(body, node.nodes[0])
                finally:
                    expired = scope.expired()
                    body.timeouts.pop()
        except TimeoutError:
            return "timed out"
        return "in time, expired" if expired else "in time"

    async def do_reschedule(self, body, node):
        if not body.timeouts:
            return "none"
        delay = node.numbers[0]
        body.timeouts[-1].reschedule(None if delay < 0 else asyncio.get_running_loop().time() + delay)
        return "ok"

    async def do_group(self, body, node):
        try:
            async with TaskGroup() as group:
                body.groups.append(group)
                try:
                    await self.run_all(body, node.nodes[0])
                finally:
                    body.groups.pop()
        except ExceptionGroup as e:
            return name_of(e)
        return "done"

    async def do_group_spawn(self, body, node):
        if not body.groups:
            return "none"
        body.groups[-1].create_task(self.new_body(node.nodes[0]))
        return f"spawned b{self.bodies}"

    # Tasks.

    async def do_spawn(self, body, node):
        self.slots[node.numbers[0]] = asyncio.create_task(self.new_body(node.nodes[0]))
        return f"spawned b{self.bodies}"

    async def do_await(self, body, node):
        tasks = self.tasks_in(node.numbers)
        return await tasks[0][1] if tasks else "none"

    async def do_cancel(self, body, node):
        tasks = self.tasks_in(node.numbers)
        return yes_no(tasks[0][1].cancel()) if tasks else "none"

    async def do_cancel_in_turns(self, body, node):
        tasks = self.tasks_in(node.numbers[1:])
        if not tasks:
            return "none"
        self.tick(node.numbers[0], tasks[0][1])
        return "ok"

    def tick(self, turns, task):
        if turns == 0:
            task.cancel()
        else:
            asyncio.get_running_loop().call_soon(self.tick, turns - 1, task)

    async def do_cancel_later(self, body, node):
        tasks = self.tasks_in(node.numbers[1:])
        if not tasks:
            return "none"
        asyncio.get_running_loop().call_later(node.numbers[0], tasks[0][1].cancel)
        return "ok"

    async def do_cancel_self(self, body, node):
        return yes_no(asyncio.current_task().cancel())

    async def do_uncancel(self, body, node):
        return str(asyncio.current_task().uncancel())

    # Several at once.

    async def do_gather(self, body, node):
        return " ".join(await asyncio.gather(*[self.new_body(part) for part in node.nodes]))

    async def do_gather_outcomes(self, body, node):
        outcomes = await asyncio.gather(*[self.new_body(part) for part in node.nodes], return_exceptions=True)
        return " ".join(map(text_of, outcomes))

    async def do_wait(self, body, node):
        mode, time, *slots = node.numbers
        tasks = self.tasks_in(slots)
        if not tasks:
            return "none"
        when = (asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION)[mode]
        await asyncio.wait([task for _, task in tasks], timeout=limit(time), return_when=when)
        return " ".join(f"{slot}={yes_no(task.done())}" for slot, task in tasks)

    async def do_wait_for(self, body, node):
        return await asyncio.wait_for(self.new_body(node.nodes[0]), limit(node.numbers[0]))

    async def do_shield(self, body, node):
        tasks = self.tasks_in(node.numbers)
        return await asyncio.shield(tasks[0][1]) if tasks else "none"

    async def do_as_completed(self, body, node):
        tasks = [asyncio.create_task(self.new_body(part)) for part in node.nodes]
        for following in asyncio.as_completed(tasks, timeout=limit(node.numbers[0])):
            try:
                outcome = await following
            except BaseException as e:
                outcome = e
            self.log(body, node.id, text_of(outcome))
            if isinstance(outcome, asyncio.CancelledError):
                raise outcome
        return "completed"


def run(program):
    """The trace of a program, a list of lines."""
    trace = []
    loop = VirtualLoop()

    async def main():
        await World(program.numbers[0], program.nodes[0], trace).run_main(program.nodes[1])

    try:
        loop.run_until_complete(main())
        result = list(trace)
    except asyncio.CancelledError:
        result = [*trace, "main cancelled"]
    except Deadlock:
        result = [*trace, "deadlock"]
        GRAVEYARD.append(loop)
        asyncio._set_running_loop(None)
    return result


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        print(*run(programs.parse(line)), "end", sep="\n", flush=True)
    os._exit(0)  # the graveyard stays closed
