"""Programs of the fuzzer: what they are made of, how they are made from a seed, how a failing one is shrunk.

A program is one line, (0 program tolerant (objects) (body)), of nodes (id op numbers... nodes...). In a tolerant one, a statement
that fails does not end its body, but for a cancellation or a raise. The objects come first: locks, semaphores,
events, conditions, barriers, queues. A body is a sequence of statements; interpreter.py and interpreter.cpp say what each does.
The id tells a statement in the trace. Slots hold spawned tasks. A body awaits only slots with a higher number than its own,
so that tasks never wait for each other in a circle.
"""

import random


class Node:
    def __init__(self, op, numbers=(), nodes=(), id=0):
        self.id, self.op, self.numbers, self.nodes = id, op, list(numbers), list(nodes)

    def __str__(self):
        return f"({' '.join(map(str, [self.id, self.op, *self.numbers, *self.nodes]))})"

    def copy(self):
        return Node(self.op, self.numbers, [node.copy() for node in self.nodes], self.id)

    def walk(self):
        yield self
        for node in self.nodes:
            yield from node.walk()


def parse(text):
    tokens = text.replace("(", " ( ").replace(")", " ) ").split()
    position = 0

    def node():
        nonlocal position
        id, op = int(tokens[position + 1]), tokens[position + 2]
        position += 3
        numbers, nodes = [], []
        while tokens[position] != ")":
            if tokens[position] == "(":
                nodes.append(node())
            else:
                numbers.append(int(tokens[position]))
                position += 1
        position += 1
        return Node(op, numbers, nodes, id)

    return node()


WAITS = {"acquire", "lock", "semaphore", "event_wait", "condition", "condition_wait", "condition_wait_for", "barrier_wait",
         "put", "get", "join", "group", "await", "gather", "gather_outcomes", "wait", "shield", "as_completed"}


class Generator:
    """Makes one program. Few objects and few moments, so that much happens to the same thing at once."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.left = self.random.randint(6, 45)  # statements
        self.slots = 0
        r = self.random
        # Most programs are about one thing, used by several tasks at once.
        themes = [self.lock_theme, self.semaphore_theme, self.condition_theme, self.barrier, self.queue_theme, self.event,
                  self.group, self.timeout, self.several, None, None]
        self.theme = r.choice(themes)
        self.objects = [Node("lock"), Node("lock"),
                        Node("semaphore", [r.randint(0, 2), 0]), Node("semaphore", [r.randint(1, 2), 1]),
                        Node("event"), Node("event"), Node("condition"),
                        Node("barrier", [r.randint(1, 3)]),
                        Node("queue", [0, r.randint(0, 2)]), Node("queue", [r.randint(0, 2), r.randint(0, 2)])]

    def program(self):
        statements = []
        while self.left > 0:
            statements.append(self.statement(0, 0))
        program = Node("program", [int(self.random.random() < 0.7)], [Node("objects", [], self.objects), Node("body", [], statements)])
        for number, node in enumerate(program.nodes[1].walk()):
            node.id = number
        return program

    def body(self, depth, slot):
        length = self.random.choice([1, 1, 2, 2, 3, 4])
        return Node("body", [], [self.statement(depth + 1, slot) for _ in range(length)])

    def bodies(self, depth, slot):
        return [self.body(depth, slot) for _ in range(self.random.choice([1, 2, 2, 3]))]

    def moment(self):
        return self.random.choice([0, 0, 1, 1, 2, 3, 5])

    def limit(self):
        return self.random.choice([-1, 0, 1, 1, 2, 2, 3, 4])

    def target(self, slot):
        """A slot that a body of this slot may wait for."""
        return self.random.randint(slot + 1, max(slot + 1, self.slots))

    def statement(self, depth, slot):
        self.left -= 1
        simple = [(8, self.sleep), (1, self.raise_), (4, self.queue_call), (3, self.event), (1, self.barrier),
                  (2, self.lock_call), (2, self.condition_call), (3, self.task_call), (2, self.cancel),
                  (1, self.self_call)]
        nested = [(2, self.try_), (1, self.repeat), (4, self.block), (3, self.timeout), (3, self.group),
                  (6, self.spawn), (2, self.several)]
        if self.theme in (self.group, self.timeout, self.several):
            nested.append((12, self.theme))
        elif self.theme:
            simple.append((20, self.theme))
            simple.append((4, self.cancel))
        choices = simple if depth > 4 or self.left <= 0 else simple + nested
        make = self.random.choices([m for _, m in choices], [w for w, _ in choices])[0]
        statement = make(depth, slot)
        # What waits for ever ends the program as a deadlock: that is a result too, but an early one.
        if statement.op in WAITS and self.random.random() < (0.9 if depth == 0 else 0.4):
            return Node("timeout", [self.random.randint(0, 4)], [Node("body", [], [statement])])
        return statement

    def inside(self, op, index, depth, slot):
        body = self.body(depth, slot) if depth < 4 else Node("body", [], [self.sleep(depth, slot)])
        return Node(op, [index], [body])

    def lock_theme(self, depth, slot):
        op = self.random.choice(["lock", "lock", "acquire", "release"])
        return self.inside(op, 0, depth, slot) if op == "lock" else Node(op, [0])

    def semaphore_theme(self, depth, slot):
        op = self.random.choice(["semaphore", "semaphore", "semaphore_release"])
        return self.inside(op, 0, depth, slot) if op == "semaphore" else Node(op, [0])

    def condition_theme(self, depth, slot):
        op = self.random.choice(["condition", "call", "call"])
        return self.inside(op, 0, depth, slot) if op == "condition" else self.condition_call(depth, slot)

    def queue_theme(self, depth, slot):
        op = self.random.choice(["put", "get", "get", "put_nowait", "get_nowait", "task_done"])
        return Node(op, [0, self.random.randint(1, 9)] if op.startswith("put") else [0])

    def sleep(self, depth, slot):
        return Node("sleep", [self.moment()])

    def raise_(self, depth, slot):
        return Node("raise", [self.random.randint(1, 9)])

    def queue_call(self, depth, slot):
        op = self.random.choice(["put", "put", "get", "get", "put_nowait", "get_nowait", "task_done", "join",
                                 "shutdown"])
        queue = self.random.randint(0, 1)
        if op in ("put", "put_nowait"):
            return Node(op, [queue, self.random.randint(1, 9)])
        if op == "shutdown":
            if self.random.random() < 0.6:
                return Node("get", [queue])
            return Node(op, [queue, self.random.randint(0, 1)])
        return Node(op, [queue])

    def event(self, depth, slot):
        return Node(self.random.choice(["event_wait", "event_wait", "event_set", "event_clear"]),
                    [self.random.randint(0, 1)])

    def barrier(self, depth, slot):
        return Node(self.random.choice(["barrier_wait"] * 5 + ["barrier_reset", "barrier_abort"]), [0])

    def lock_call(self, depth, slot):
        op = self.random.choice(["acquire", "release", "semaphore_release"])
        return Node(op, [self.random.randint(0, 1)])

    def condition_call(self, depth, slot):
        op = self.random.choice(["condition_wait", "condition_wait_for", "notify", "notify_all", "count"])
        if op == "count":
            return Node(op, [0])
        if op == "condition_wait_for":
            return Node(op, [0, 0, self.random.randint(1, 3)])
        call = Node(op, [0, self.random.randint(1, 2)] if op == "notify" else [0])
        # Mostly as it is meant: with the lock held.
        return call if self.random.random() < 0.2 else Node("condition", [0], [Node("body", [], [call])])

    def task_call(self, depth, slot):
        op = self.random.choice(["await", "await", "shield", "wait"])
        if op == "wait":
            slots = sorted({self.target(slot) for _ in range(self.random.randint(1, 3))})
            return Node(op, [self.random.randint(0, 2), self.limit(), *slots])
        return Node(op, [self.target(slot)])

    def cancel(self, depth, slot):
        op = self.random.choice(["cancel", "cancel", "cancel_in_turns", "cancel_later"])
        target = self.random.randint(1, max(1, self.slots))
        return Node(op, [target] if op == "cancel" else [self.random.randint(0, 4), target])

    def self_call(self, depth, slot):
        return Node(self.random.choice(["cancel_self", "uncancel"]))

    def try_(self, depth, slot):
        empty = Node("body")
        return Node("try", [self.random.randint(0, 2), self.random.randint(0, 1)],
                    [self.body(depth, slot),
                     self.body(depth, slot) if self.random.random() < 0.4 else empty.copy(),
                     self.body(depth, slot) if self.random.random() < 0.4 else empty.copy()])

    def repeat(self, depth, slot):
        return Node("repeat", [self.random.randint(2, 3)], [self.body(depth, slot)])

    def block(self, depth, slot):
        op = self.random.choice(["lock", "lock", "semaphore", "condition"])
        index = 0 if op == "condition" else self.random.randint(0, 1)
        return Node(op, [index], [self.body(depth, slot)])

    def timeout(self, depth, slot):
        if self.random.random() < 0.3:
            return Node("wait_for", [self.limit()], [self.body(depth, slot)])
        body = self.body(depth, slot)
        if self.random.random() < 0.3:
            body.nodes.insert(self.random.randint(0, len(body.nodes)), Node("reschedule", [self.limit()]))
        return Node("timeout", [self.limit()], [body])

    def group(self, depth, slot):
        body = self.body(depth, slot)
        for _ in range(self.random.randint(1, 3)):
            body.nodes.insert(self.random.randint(0, len(body.nodes)),
                              Node("group_spawn", [], [self.body(depth, slot)]))
        return Node("group", [], [body])

    def spawn(self, depth, slot):
        self.slots += 1
        own = self.slots
        return Node("spawn", [own], [self.body(depth, own)])

    def several(self, depth, slot):
        op = self.random.choice(["gather", "gather_outcomes", "as_completed"])
        return Node(op, [self.limit()] if op == "as_completed" else [], self.bodies(depth, slot))


def smaller(program):
    """Programs with a part less than this one, the largest parts first."""
    nodes = list(program.nodes[1].walk())
    cuts = []
    for position, node in enumerate(nodes):
        for child, part in enumerate(node.nodes):
            if node.op == "body":
                cuts.append((sum(1 for _ in part.walk()), position, child, None))
                for grandchild, body in enumerate(part.nodes):
                    cuts.append((1, position, child, grandchild))
            elif node.op in ("gather", "gather_outcomes", "as_completed") and len(node.nodes) > 1:
                cuts.append((sum(1 for _ in part.walk()), position, child, None))
    for _, position, child, grandchild in sorted(cuts, key=lambda cut: -cut[0]):
        candidate = program.copy()
        node = list(candidate.nodes[1].walk())[position]
        # A statement goes, or one of its bodies takes its place.
        node.nodes[child:child + 1] = [] if grandchild is None else node.nodes[child].nodes[grandchild].nodes
        yield candidate
    for position, node in enumerate(nodes):
        for index, number in enumerate(node.numbers):
            if node.op in ("sleep", "timeout", "wait_for", "cancel_in_turns", "cancel_later", "repeat") \
                    and index == 0 and number > 1:
                candidate = program.copy()
                list(candidate.nodes[1].walk())[position].numbers[index] = number - 1
                yield candidate


def pretty(node, indent=0):
    """The program over several lines."""
    head = " ".join(map(str, [node.id, node.op, *node.numbers]))
    lines = [f"{'  ' * indent}({head}"]
    lines += [pretty(child, indent + 1) for child in node.nodes]
    return "\n".join(lines) + ")"
