"""coil in gdb: the tasks of a stopped program or of a core file, and one line for each of coil's objects.

    source …/coil.py          in gdb, or in ~/.gdbinit

    coil tasks                a table of the tasks, as `coil ps` shows it
    coil tree                 who awaits whom, as `coil pstree`
    coil bt TASK              the coroutines of one task, by its name or its hexadecimal id

The program `coil` reads the tasks. It is the one that the parameter `coil-program` names, else the environment's
COIL_PROGRAM, else that of the installation which this script belongs to, else the one in PATH.
"""

import difflib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gdb
import gdb.printing

# This script is installed as share/coil/gdb/coil.py.
INSTALLED_PROGRAM = (Path(__file__).resolve().parent / "../../../bin/coil").resolve()


def encodable(text: str, charset: str) -> str:
    """The text without characters that the charset lacks: gdb would raise an exception."""
    return text.encode(charset, "backslashreplace").decode(charset)


def failure(text: str) -> gdb.GdbError:
    return gdb.GdbError(encodable(text, gdb.host_charset()))


# ---- the program `coil`


class ProgramParameter(gdb.Parameter):
    """Where it is. Without a value it is looked for."""

    set_doc = "Set the program `coil`, which the commands `coil ...` run."
    show_doc = "Show the program `coil`, which the commands `coil ...` run."

    def __init__(self) -> None:
        super().__init__("coil-program", gdb.COMMAND_FILES, gdb.PARAM_OPTIONAL_FILENAME)
        self.value = ""

    def get_set_string(self) -> str:
        return ""

    def get_show_string(self, value: str) -> str:
        return f"The program is {value}." if value else "The program is looked for."


def find_program() -> str:
    """The path of the program `coil`."""
    for origin, path in (
        ("the parameter coil-program", gdb.parameter("coil-program")),
        ("the environment's COIL_PROGRAM", os.environ.get("COIL_PROGRAM")),
    ):
        if path:
            if not (found := shutil.which(os.path.expanduser(path))):
                raise failure(f"coil: {origin} is '{path}', which is no program")
            return found
    if found := shutil.which(INSTALLED_PROGRAM) or shutil.which("coil"):
        return found
    raise failure("coil: the program `coil` is missing: `set coil-program PATH` says where it is")


def core_file() -> str:
    """The path of the core file that gdb has opened."""
    files = gdb.execute("info files", to_string=True)
    if match := re.search(r"^Local core dump file:\n\s*`(.+)', file type", files, re.MULTILINE):
        return match[1]
    raise failure("coil: gdb does not tell the core file's name")


def program_argument() -> str:
    """What the program `coil` is to look into: a number of a process or the path of a core file."""
    inferior = gdb.selected_inferior()
    if inferior.pid == 0 or not (connection := inferior.connection):
        raise failure("coil: there is no process and no core file")
    if connection.type == "core":
        return core_file()
    if connection.type == "native":
        return str(inferior.pid)
    raise failure(
        f"coil: a target of the kind '{connection.type}' cannot be looked into from here: run `coil ps {inferior.pid}` "
        "on its machine, or open the core file that `generate-core-file` writes"
    )


def run_program(*arguments: str) -> str:
    """What `coil ARGUMENTS` prints about the current inferior."""
    command = [find_program(), *arguments, program_argument()]
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise failure(f"coil: cannot run {command[0]}: {error.strerror}") from None
    if ended.returncode != 0:
        raise failure(ended.stderr.strip() or f"coil: {command[0]} failed: exit status {ended.returncode}")
    return ended.stdout


# ---- commands


def no_arguments(command: str, argument: str) -> None:
    if argument.strip():
        raise failure(f"coil: `{command}` takes no arguments")


class CoilCommand(gdb.Command):
    """Look at coil's tasks in a stopped program or in a core file."""

    def __init__(self) -> None:
        super().__init__("coil", gdb.COMMAND_STACK, prefix=True)

    def invoke(self, argument: str, from_tty: bool) -> None:
        if argument:
            raise failure(f"coil: unknown command '{argument}'; `help coil` lists what there is")
        gdb.execute("help coil")


class TasksCommand(gdb.Command):
    """A table of all tasks: state, age, place, coroutines and what each waits for.
    Usage: coil tasks"""

    def __init__(self) -> None:
        super().__init__("coil tasks", gdb.COMMAND_STACK)

    def invoke(self, argument: str, from_tty: bool) -> None:
        no_arguments("coil tasks", argument)
        gdb.write(run_program("ps", "--no-colour"))


class TreeCommand(gdb.Command):
    """A tree of all tasks: who awaits whom, through every coroutine.
    Usage: coil tree"""

    def __init__(self) -> None:
        super().__init__("coil tree", gdb.COMMAND_STACK)

    def invoke(self, argument: str, from_tty: bool) -> None:
        no_arguments("coil tree", argument)
        gdb.write(run_program("pstree", "--no-colour"))


class BacktraceCommand(gdb.Command):
    """The coroutines of one task, innermost first, and what it waits for.
    Usage: coil bt TASK
    TASK is the task's name, or its id as `coil bt` shows it: 0x55d0c8f3a2c0."""

    def __init__(self) -> None:
        super().__init__("coil bt", gdb.COMMAND_STACK)

    def invoke(self, argument: str, from_tty: bool) -> None:
        if not (wanted := unquoted(argument.strip())):
            raise failure("coil: which task? `coil bt NAME` or `coil bt 0xID`; `coil tasks` lists them")
        tasks = [task for loop in json.loads(run_program("ps", "--json"))["loops"] for task in loop["tasks"]]
        gdb.write(backtrace(find_task(tasks, wanted), {task["id"]: task["name"] for task in tasks}))


Json = dict[str, Any]


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def find_task(tasks: list[Json], wanted: str) -> Json:
    found = [task for task in tasks if task["name"] == wanted]
    if not found and re.fullmatch(r"0[xX][0-9a-fA-F]+", wanted):
        found = [task for task in tasks if task["id"] == int(wanted, 16)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(f"{task['id']:#x}" for task in found[:20]) + (", ..." if len(found) > 20 else "")
        raise failure(f"coil: {len(found)} tasks have the name '{wanted}': {ids}")
    names = dict.fromkeys(task["name"] for task in tasks)
    close = ", ".join(f"'{name}'" for name in difflib.get_close_matches(wanted, names, n=5))
    hint = f"is it {close}?" if close else "`coil tasks` lists them"
    raise failure(f"coil: there is no task '{wanted}': {hint}")


def backtrace(task: Json, names: dict[int, str]) -> str:
    """The text of `coil bt`."""
    lines = [f"Task '{task['name']}' ({task['id']:#x}), {task['state']}"]
    lines += [f"#{number:<2} {place(frame)}" for number, frame in enumerate(task["stack"])]
    if task["waits_for"]:
        lines.append(f"waits for {task['waits_for']}")
    if waiters := [f"'{names[waiter]}'" for waiter in task["awaited_by"] if waiter in names]:
        lines.append(f"awaited by {', '.join(waiters)}")
    if task["created_at"]:
        lines.append(f"created in {place(task['created_at'])}")
    return "\n".join(lines) + "\n"


def place(frame: Json) -> str:
    return f"{short_function(frame['function'])} () at {frame['file'].rpartition('/')[2]}:{frame['line']}"


def short_function(function: str) -> str:
    """"worker" for "coil::Coro<> worker(Queue &, int)", as `coil ps` shows it."""
    begin, end, depth = 0, len(function), 0
    for i, c in enumerate(function):
        if c == "(" and depth == 0 and i > begin and not function.startswith("(anonymous", i):
            end = i
            break
        depth += (c in "<(") - (c in ">)")
        if c in " *&" and depth == 0:
            begin = i + 1
    else:
        begin = 0
    name = function[begin:end]
    for prefix in ("coil::", "detail::", "(anonymous namespace)::", "{anonymous}::"):
        name = name.removeprefix(prefix)
    while name != (shorter := re.sub("<[^<>]*>", "", name)):
        name = shorter
    return name


# ---- objects: fields of the C++ library

MOST_NODES = 100_000
STRING = "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >"


class Unreadable(Exception):
    """What is there makes no sense: not initialised yet, or destroyed."""


def at(address: int | gdb.Value, of_type: gdb.Type) -> gdb.Value:
    return gdb.Value(int(address)).cast(of_type.pointer()).dereference()


def word_at(address: int) -> int:
    return int(at(address, gdb.lookup_type("unsigned long")))


def copy_at(address: int | gdb.Value, of_type: gdb.Type) -> gdb.Value:
    """A copy of an object of a base class: gdb would look for its whole, and warn where it does not know the type."""
    return gdb.Value(gdb.selected_inferior().read_memory(int(address), of_type.sizeof), of_type)


def type_at(address: int) -> str:
    """The name of the dynamic type of an object with virtual functions; empty if its symbol is missing."""
    symbol = gdb.execute(f"info symbol {word_at(address):#x}", to_string=True)
    match = re.match(r"vtable for (.+?)( \+ \d+)?( in section .*)?$", symbol)
    return match[1] if match else ""


def whole_at(address: int | gdb.Value) -> gdb.Value:
    """The object that a pointer to one of its base classes, with virtual functions, points into."""
    address = int(address)
    offset = int(at(word_at(address) - 16, gdb.lookup_type("long")))
    return at(address + offset, gdb.lookup_type(type_at(address)))


def text_of(string: gdb.Value) -> str:
    """A std::string's."""
    length = int(string["_M_string_length"])
    if not 0 <= length < 1 << 32:
        raise Unreadable
    text = string["_M_dataplus"]["_M_p"].string("utf-8", "replace", min(length, 200))
    return text + "..." if length > 200 else text


def vector_size(vector: gdb.Value) -> int:
    return int(vector["_M_impl"]["_M_finish"] - vector["_M_impl"]["_M_start"])


def vector_items(vector: gdb.Value, most: int) -> Iterator[gdb.Value]:
    for i in range(min(vector_size(vector), most)):
        yield (vector["_M_impl"]["_M_start"] + i).dereference()


def atomic(value: gdb.Value) -> gdb.Value:
    """A std::atomic's value."""
    return value["_M_base"]["_M_i"] if any(field.name == "_M_base" for field in value.type.fields()) else value["_M_i"]


def unique_pointer(value: gdb.Value) -> gdb.Value:
    """A std::unique_ptr's pointer; its deleter is in a field of the same name."""
    for field in value.type.strip_typedefs().fields():
        part = value[field]
        if part.type.strip_typedefs().code == gdb.TYPE_CODE_PTR:
            return part
        if part.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT and (found := unique_pointer(part)) is not None:
            return found
    return None


def seconds(nanoseconds: gdb.Value) -> str:
    return f"{int(nanoseconds) / 1e9:.3f}s"


def demangled(name: str) -> str:
    """A type's name from its std::type_info. Raises gdb.error if it is none."""
    text = gdb.execute(f"demangle -l c++ -- _ZTI{name.lstrip('*')}", to_string=True)
    return text.strip().removeprefix("typeinfo for ").replace(STRING, "std::string")


def exception_type(pointer: gdb.Value) -> str:
    """The type of what a std::exception_ptr holds; empty for null."""
    thrown = int(pointer["_M_exception_object"])
    if not thrown:
        return ""
    # The first field of the __cxa_exception before the object is its std::type_info, whose second field is the name.
    name = word_at(word_at(thrown - 112) + 8)
    return demangled(at(name, gdb.lookup_type("char")).address.string("utf-8", "replace"))


def one_line(value: gdb.Value) -> str:
    """A value of any type, as gdb shows it."""
    text = value.format_string(pretty_structs=False, pretty_arrays=False, max_elements=20, max_depth=2)
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."


# ---- objects: coil's


def detail(name: str) -> gdb.Type:
    return gdb.lookup_type(f"coil::detail::{name}")


def count_nodes(intrusive_list: gdb.Value) -> int:
    head = intrusive_list["head_"]
    end, node, count = int(head.address), head["next_"], 0
    previous = end
    while int(node) != end:
        if count == MOST_NODES or int(node["prev_"]) != previous:
            raise Unreadable
        previous, node, count = int(node), node["next_"], count + 1
    return count


def waiting(queue: gdb.Value, what: str = "waiting") -> str:
    """", 2 waiting" of a WaitQueue's tasks."""
    count = count_nodes(queue["nodes_"])
    return f", {count} {what}" if count else ""


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def flag(value: gdb.Value) -> bool:
    """A bool that is one."""
    if int(value) not in (0, 1):
        raise Unreadable
    return bool(value)


def enumerator(value: gdb.Value) -> str:
    """"PENDING" of `coil::detail::FutureBase::State::PENDING`."""
    for field in value.type.strip_typedefs().fields():
        if field.enumval == int(value):
            return field.name.rpartition("::")[2]
    raise Unreadable


def ending(word: str, error: str, result: str | None) -> str:
    if error == "coil::CancelledError":
        return "cancelled"
    if error:
        return f"failed with {error}"
    return f"{word} result {result}".strip() if result is not None else word


def boxed(box: gdb.Value) -> str | None:
    """The text of a Box's value; nothing for void."""
    names = {field.name for field in box.type.strip_typedefs().fields()}
    if "full_" not in names:  # of a reference, or of void
        return one_line(box["value_"].dereference()) if "value_" in names else None
    return one_line(box["value_"]) if flag(box["full_"]) else None


def future_result(address: int) -> str | None:
    """Of a state that has finished without an error."""
    try:
        box = whole_at(address)["box_"]
    except gdb.error:  # another layer's kind of state, or its type is not known here
        return None
    return boxed(box)


def task_name(name: gdb.Value) -> str:
    bits = int(name["bits_"])
    return f"Task-{bits // 2}" if bits % 2 else text_of(at(bits, gdb.lookup_type("std::string")))


def is_queued(task: gdb.Value, address: int) -> bool:
    """Whether the task at the address is in its loop's ready queue."""
    runnable = next(field for field in task.type.fields() if field.is_base_class and field.name.endswith("::Runnable"))
    wanted = address + runnable.bitpos // 8
    node = int(task["ready_"]["head_"])
    for _ in range(MOST_NODES):
        if node in (0, wanted):
            return node == wanted
        node = int(at(node, runnable.type)["next_"])
    raise Unreadable


def stands(address: int, is_task: bool) -> str:
    """How the future or task with this state stands."""
    state = copy_at(address, detail("FutureBase"))
    where = enumerator(state["state_"])
    if where == "FINISHED":
        error = exception_type(state["error_"])
        return ending("finished,", error, None if error else future_result(address)).removesuffix(",")
    if where == "CANCELLED" or not is_task:
        return where.lower()
    task = copy_at(address, detail("TaskBase"))
    if is_queued(task, address):
        return "ready"
    return "waiting" if task["waiting_on_"] else "running"


def task(value: gdb.Value) -> str:
    address = int(value["state_"]["object_"])
    if not address:
        return "empty"
    name = task_name(copy_at(address, detail("TaskBase"))["name_"])
    return f"{name!r} {stands(address, is_task=True)}"


def future(value: gdb.Value) -> str:
    address = int(value["state_"]["object_"])
    if address and type_at(address).startswith("coil::detail::TaskState<"):
        return f"of Task {task(value)}"
    return stands(address, is_task=False) if address else "empty"


def coro(value: gdb.Value) -> str:
    handle = value["handle_"]
    frame = int(handle["_M_fr_ptr"])
    if not frame:
        return "awaited"
    # A frame begins with two pointers; the promise comes next, as far on as its alignment asks.
    alignment = max(handle.type.strip_typedefs().template_argument(0).alignof, 8)
    promise = (frame + 16 + alignment - 1) // alignment * alignment
    where = at(promise, detail("PromiseBase"))["where_"]["_M_impl"]
    function = where["_M_function_name"].string("utf-8", "replace")
    file = where["_M_file_name"].string("utf-8", "replace")
    return f"{short_function(function)} at {file.rpartition('/')[2]}:{int(where['_M_line'])}"


def lock(value: gdb.Value) -> str:
    return ("locked" if flag(value["locked_"]) else "unlocked") + waiting(value["waiters_"])


def event(value: gdb.Value) -> str:
    return ("set" if flag(value["set_"]) else "not set") + waiting(value["waiters_"])


def condition(value: gdb.Value) -> str:
    locked = flag(value["lock_"]["locked_"])
    return ("locked" if locked else "unlocked") + waiting(value["waiters_"])


def semaphore(value: gdb.Value) -> str:
    permits, bound = int(value["value_"]), int(value["bound_"])
    of_bound = f" of {bound}" if bound >= 0 else ""
    return f"{permits}{of_bound}" + waiting(value["waiters_"])


def barrier(value: gdb.Value) -> str:
    state = value["state_"]["_M_ptr"]
    if not state:
        return "empty"
    phase = enumerator(state["phase_"])
    count = int(state["count_"]) if phase == "FILLING" else 0
    return f"{count} of {int(state['parties_'])}" + (", broken" if phase == "BROKEN" else "")


def queue(value: gdb.Value) -> str:
    size, most = int(value["size_"]), int(value["maxsize_"])
    text = f"{size} of {most} items" if most > 0 else f"{size} items"
    text += waiting(value["getters_"], "getting") + waiting(value["putters_"], "putting")
    return text + (", shut down" if flag(value["shut_down_"]) else "")


def task_group(value: gdb.Value) -> str:
    state = unique_pointer(value["state_"])
    if not state:
        return "empty"
    text = f"{count_nodes(state['children_'])} unfinished tasks"
    if not state["loop_"]:
        return f"{text}, not entered"
    return f"{text}, ending its tasks" if flag(state["aborting_"]) else text


def timeout(value: gdb.Value) -> str:
    state = enumerator(value["state_"])
    text = {"ENTERED": "active", "EXITED": "finished"}.get(state, state.lower())
    when = value["when_"]["_M_payload"]
    if not flag(when["_M_engaged"]):
        return text
    return f"{text} at {seconds(when['_M_payload']['_M_value']['__d']['__r'])}"


def outcome(value: gdb.Value) -> str:
    held = value["value_"]["_M_payload"]
    if not flag(held["_M_engaged"]):
        return ending("", exception_type(value["error_"]), None) or "empty"
    result = held["_M_payload"]["_M_value"]
    if result.type.strip_typedefs().name == "coil::None":
        return "finished"
    return f"result {one_line(result)}"


def stream_reader(value: gdb.Value) -> str:
    state = value["state_"]["_M_ptr"]
    if not state:
        return "empty"
    size = int(state["buffer_"]["_M_string_length"]) - int(state["begin_"])
    if size < 0:
        raise Unreadable
    error = exception_type(state["exception_"])
    return (
        f"{size} bytes"
        + (", at the end" if flag(state["eof_"]) else "")
        + (f", failed with {error}" if error else "")
        + (", 1 waiting" if state["waiting_"] else "")
    )


def stream_writer(value: gdb.Value) -> str:
    state = value["state_"]["_M_ptr"]
    if not state:
        return "empty"
    transport = whole_at(state["transport"]["_M_ptr"])
    try:
        text = f"on descriptor {int(transport['socket_']['fd_'])}"
    except gdb.error:  # over another transport
        text = f"on {short_function(transport.type.name)}"
    return text + (", closing" if transport["closing_"] else "")


def socket_address(value: gdb.Value) -> str:
    return f"({text_of(value['host'])!r}, {int(value['port'])})"


def handle(value: gdb.Value) -> str:
    address = int(value["state_"]["object_"])
    if not address:
        return "empty"
    callback = copy_at(address, detail("CallbackBase"))
    return "cancelled" if flag(atomic(callback["cancelled_"])) else "waiting" if callback["live_"] else "done"


def timer_handle(value: gdb.Value) -> str:
    return f"{handle(value)}, at {seconds(value['when_']['__d']['__r'])}" if value["state_"]["object_"] else "empty"


def event_loop(value: gdb.Value) -> str:
    core = value["core_"]
    state = "closed" if flag(atomic(core["closed"])) else "running" if flag(atomic(core["running"])) else "not running"
    return f"{state}, {plural(count_nodes(core['tasks']), 'task')}" + (", debug" if flag(core["debug"]) else "")


def exception_group(value: gdb.Value) -> str:
    parts = value["parts_"]["_M_ptr"]
    if not parts:
        return "empty"
    most = 10
    types = [exception_type(error) for error in vector_items(parts["exceptions"], most)]
    types += ["..."] if vector_size(parts["exceptions"]) > most else []
    return f"{text_of(parts['message'])!r}: {', '.join(types)}"


Describe = Callable[[gdb.Value], str]

DESCRIPTIONS: dict[str, Describe] = {
    "Task": task,
    "Future": future,
    "Coro": coro,
    "Outcome": outcome,
    "Lock": lock,
    "Event": event,
    "Condition": condition,
    "Semaphore": semaphore,
    "BoundedSemaphore": semaphore,
    "Barrier": barrier,
    "Queue": queue,
    "PriorityQueue": queue,
    "LifoQueue": queue,
    "TaskGroup": task_group,
    "Timeout": timeout,
    "StreamReader": stream_reader,
    "StreamWriter": stream_writer,
    "SocketAddress": socket_address,
    "Handle": handle,
    "TimerHandle": timer_handle,
    "EventLoop": event_loop,
    "ExceptionGroup": exception_group,
}


class Printer:
    """One line about an object, whatever its memory contains."""

    def __init__(self, name: str, describe: Describe, value: gdb.Value) -> None:
        self.name = name
        self.describe = describe
        self.value = value

    def to_string(self) -> str:
        try:
            return encodable(f"<{self.name} {self.describe(self.value)}>", gdb.target_charset())
        except Exception:  # memory is anything, and its types may be unknown
            return f"<{self.name} unreadable>"


def register_printers() -> None:
    printers = gdb.printing.RegexpCollectionPrettyPrinter("coil")
    for name, describe in DESCRIPTIONS.items():
        printers.add_printer(
            name, f"^coil::{name}(<.*>)?$", lambda value, name=name, describe=describe: Printer(name, describe, value)
        )
    gdb.printing.register_pretty_printer(None, printers, replace=True)


ProgramParameter()
CoilCommand()
TasksCommand()
TreeCommand()
BacktraceCommand()
register_printers()
